"""The tracing pass on tiny models from disk: batches, targets, gradients, and what it leaves."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.reference.hidden_attention import alpha
from tests.tiny_models import one_thread, save_gpt2, save_mamba
from workers.mixers import mixers_of
from workers.mixers.protocol import Weighting
from workers.models.loading import LoadedModel, load
from workers.models.readout import Readout
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace, trace_each

TEXTS = (
    TraceRequest((3, 1, 4, 1, 5, 9, 2, 6)),
    TraceRequest((7,)),
    TraceRequest((8, 2, 8), position=1, token=4),
    TraceRequest((3, 1, 4, 1, 5, 9, 2, 6)),
    TraceRequest(tuple(range(1, 31)), position=-4, token=11, contrast=2),
)
LAYERS = {0, 1, 2}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def _loaded(root: Path, save: Callable[..., Path], **options: Any) -> LoadedModel:
    save(root / "model", **options)
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings)


@pytest.fixture(scope="module", params=[False, True], ids=["no biases", "biases"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return _loaded(tmp_path_factory.mktemp("models"), save_mamba, bias=request.param)


@pytest.fixture(scope="module")
def traces(loaded: LoadedModel) -> list[TextTrace]:
    return trace(loaded, TEXTS, LAYERS, {1, 2})


def _full_logits(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[
            0
        ]
    return logits


def _hooks(loaded: LoadedModel) -> int:
    return sum(len(module._forward_hooks) for module in loaded.model.modules())


def test_logits_are_the_models_own_at_the_position(
    loaded: LoadedModel, traces: list[TextTrace]
) -> None:
    for request, text in zip(TEXTS, traces, strict=True):
        own = _full_logits(loaded, request.ids)[request.position]
        torch.testing.assert_close(text.logits, own, rtol=1e-5, atol=1e-5)
        assert text.ids == request.ids


def test_default_target_is_the_top_token_at_the_last_position(
    loaded: LoadedModel, traces: list[TextTrace]
) -> None:
    own = _full_logits(loaded, TEXTS[0].ids)[-1]
    target = traces[0].target
    assert (target.position, target.token, target.contrast) == (7, int(own.argmax()), None)
    assert traces[0].value == pytest.approx(float(own.max()), rel=1e-5)


def test_named_target_and_position(loaded: LoadedModel, traces: list[TextTrace]) -> None:
    target = traces[2].target
    assert (target.position, target.token, target.contrast) == (1, 4, None)
    own = _full_logits(loaded, TEXTS[2].ids)[1, 4]
    assert traces[2].value == pytest.approx(float(own), rel=1e-5, abs=1e-5)


def test_contrast_is_subtracted_and_negative_positions_count_from_the_end(
    loaded: LoadedModel, traces: list[TextTrace]
) -> None:
    target = traces[4].target
    assert (target.position, target.token, target.contrast) == (26, 11, 2)
    own = _full_logits(loaded, TEXTS[4].ids)[26]
    assert traces[4].value == pytest.approx(float(own[11] - own[2]), rel=1e-5, abs=1e-5)


def test_a_top_token_that_is_the_contrast_leaves_nothing_to_explain(loaded: LoadedModel) -> None:
    ids = TEXTS[0].ids
    top = int(_full_logits(loaded, ids)[-1].argmax())
    with pytest.raises(ProblemError) as caught:
        trace(loaded, [TraceRequest(ids, contrast=top)], {0}, set())
    (error,) = caught.value.problem.errors
    assert error.pointer == "/target/contrast"


def _captured(mixer: Any) -> list[Tensor]:
    """All that a trace keeps of a text."""
    kept = (mixer.capture.hidden, mixer.capture.output, mixer.capture.output_gradient)
    return [tensor for tensor in kept if tensor is not None]


def test_every_layer_is_rebuilt(traces: list[TextTrace]) -> None:
    for text in traces:
        assert list(text.mixers) == [0, 1, 2]
        for mixer in text.mixers.values():
            assert mixer.length == len(text.ids)
            assert mixer.summary().reconstruction_error < 1e-5


def test_a_batch_equals_each_text_alone(loaded: LoadedModel, traces: list[TextTrace]) -> None:
    for request, together in zip(TEXTS, traces, strict=True):
        alone = trace(loaded, [request], LAYERS, {1, 2})[0]
        assert alone.target == together.target
        torch.testing.assert_close(alone.logits, together.logits, rtol=1e-5, atol=1e-5)
        for layer in LAYERS:
            ours, theirs = together.mixers[layer], alone.mixers[layer]
            kept = zip(_captured(ours), _captured(theirs), strict=True)
            for tensor, same in kept:
                torch.testing.assert_close(tensor, same, rtol=1e-4, atol=1e-5)


def test_the_same_batch_gives_the_same_bits(loaded: LoadedModel, traces: list[TextTrace]) -> None:
    again = trace(loaded, TEXTS, LAYERS, {1, 2})
    for first, second in zip(traces, again, strict=True):
        assert torch.equal(first.logits, second.logits)
        for layer in (1, 2):
            kept = zip(_captured(first.mixers[layer]), _captured(second.mixers[layer]), strict=True)
            assert all(torch.equal(tensor, same) for tensor, same in kept)


@pytest.mark.parametrize("text", [0, 2, 4])
@pytest.mark.parametrize("layer", [1, 2])
def test_gradient_is_that_of_the_target_through_an_explicit_alpha(
    loaded: LoadedModel, traces: list[TextTrace], text: int, layer: int
) -> None:
    """d target / d alpha[d, t, s] = g[t, d] x[s, d], with alpha a leaf in the running model."""
    mixer: Any = traces[text].mixers[layer]
    inside, weights = mixer.whole, mixer.weights
    system = (inside.delta, weights.A, inside.B, inside.C)
    arrays = [tensor.double().numpy() for tensor in system]
    leaf = torch.tensor(alpha(*arrays), dtype=torch.float32, requires_grad=True)

    def from_alpha(module: Any, args: Any, output: Tensor) -> Any:
        mixed = torch.einsum("dts,sd->td", leaf, inside.x) + weights.D * inside.x
        neurons = mixed * torch.nn.functional.silu(inside.gate)
        return module.out_proj(neurons)[None]

    handle = mixers_of(loaded.model)[layer].register_forward_hook(from_alpha)
    try:
        logits = loaded.model(input_ids=torch.tensor([traces[text].ids])).logits[0]
    finally:
        handle.remove()
    target = traces[text].target
    scalar = logits[target.position, target.token]
    if target.contrast is not None:
        scalar = scalar - logits[target.position, target.contrast]
    (expected,) = torch.autograd.grad(scalar, leaf)
    found = torch.einsum("td,sd->dts", *mixer.pair(Weighting.GRADIENT, inside))
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_gradient_is_zero_after_the_target_position(traces: list[TextTrace]) -> None:
    gradient = traces[4].mixers[1].capture.output_gradient
    assert gradient is not None
    assert gradient[:27].abs().amax(1).all()
    assert not gradient[27:].any()


def test_layers_without_gradient_carry_none(traces: list[TextTrace]) -> None:
    assert all(text.mixers[0].capture.output_gradient is None for text in traces)


def test_nothing_below_the_lowest_gradient_layer_is_in_the_graph(loaded: LoadedModel) -> None:
    tracked: dict[int, bool] = {}
    handles = [
        module.register_forward_hook(
            lambda m, args, output, layer=layer: tracked.__setitem__(
                layer, args[0].requires_grad or output.grad_fn is not None
            )
        )
        for layer, module in mixers_of(loaded.model).items()
    ]
    try:
        trace(loaded, TEXTS[:1], LAYERS, {1, 2})
    finally:
        for handle in handles:
            handle.remove()
    assert tracked == {0: False, 1: False, 2: True}


def test_without_gradient_layers_no_graph_is_built(loaded: LoadedModel) -> None:
    seen: list[bool] = []
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda m, a, output: seen.append(output.requires_grad))
    found = trace(loaded, TEXTS[:2], {2}, set())
    handle.remove()
    assert seen == [False]
    assert [list(text.mixers) for text in found] == [[2], [2]]


def test_gradients_are_traced_whatever_the_callers_grad_mode(
    loaded: LoadedModel, traces: list[TextTrace]
) -> None:
    with torch.no_grad():
        again = trace(loaded, TEXTS, LAYERS, {1, 2})
    kept = zip(_captured(again[4].mixers[1]), _captured(traces[4].mixers[1]), strict=True)
    assert all(torch.equal(tensor, same) for tensor, same in kept)


def test_the_head_reads_one_position_a_text(loaded: LoadedModel) -> None:
    shapes: list[tuple[int, ...]] = []
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda m, args, o: shapes.append(tuple(args[0].shape)))
    trace(loaded, TEXTS[:4], LAYERS, {2})
    handle.remove()
    assert shapes == [(4, 48)]


def test_long_and_short_texts_are_not_padded_to_each_other(loaded: LoadedModel) -> None:
    shapes: list[tuple[int, ...]] = []
    embeddings = loaded.model.get_input_embeddings()
    handle = embeddings.register_forward_hook(
        lambda m, args, o: shapes.append(tuple(args[0].shape))
    )
    lengths = (300, 5, 280, 9)
    found = trace(loaded, [TraceRequest((1,) * length) for length in lengths], {0}, set())
    handle.remove()
    assert shapes == [(2, 9), (2, 300)]
    assert tuple(len(text.ids) for text in found) == lengths


def test_batches_stay_within_the_memory_that_one_may_take(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tracing._BATCH_BYTES", 1)
    shapes: list[tuple[int, ...]] = []
    embeddings = loaded.model.get_input_embeddings()
    handle = embeddings.register_forward_hook(
        lambda m, args, o: shapes.append(tuple(args[0].shape))
    )
    order = [index for index, _ in trace_each(loaded, TEXTS, {0}, set())]
    handle.remove()
    assert shapes == [(1, 1), (1, 3), (1, 8), (1, 8), (1, 30)]
    assert order == [1, 2, 0, 3, 4]


def test_hooks_are_removed(loaded: LoadedModel, traces: list[TextTrace]) -> None:
    assert _hooks(loaded) == 0


def test_hooks_are_removed_when_the_pass_fails(loaded: LoadedModel) -> None:
    with pytest.raises(IndexError):
        trace(loaded, [TraceRequest((1, 10_000))], LAYERS, {1})
    assert _hooks(loaded) == 0


def test_no_parameter_gathers_a_gradient(loaded: LoadedModel, traces: list[TextTrace]) -> None:
    for parameter in loaded.model.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_logits_that_are_not_finite_are_a_problem(loaded: LoadedModel) -> None:
    broken = copy.deepcopy(loaded.model)
    broken.get_output_embeddings().weight.data[3] = float("inf")
    of_broken = replace(loaded, model=broken, readout=Readout.of(broken))
    with pytest.raises(
        ProblemError, match="vector of logits holds infinities or NaN for text 0"
    ) as caught:
        trace(of_broken, TEXTS[:1], LAYERS, {1})
    assert caught.value.kind is ProblemType.NOT_FINITE
    assert _hooks(of_broken) == 0


def test_mixers_that_are_not_finite_after_the_target_are_a_problem(loaded: LoadedModel) -> None:
    broken = copy.deepcopy(loaded.model)
    broken.get_input_embeddings().weight.data[9] = float("nan")
    texts = [TraceRequest((1, 2, 3)), TraceRequest((1, 2, 9), position=1, text=1)]
    with pytest.raises(ProblemError, match=r"output of layer 0 holds .* for text 1") as caught:
        trace(replace(loaded, model=broken), texts, {0}, set())
    assert caught.value.kind is ProblemType.NOT_FINITE


def test_a_text_that_cannot_be_traced_leaves_the_others_as_they_are(loaded: LoadedModel) -> None:
    broken = copy.deepcopy(loaded.model)
    broken.get_input_embeddings().weight.data[9] = float("nan")
    model = replace(loaded, model=broken)
    good, other = TraceRequest((1, 2, 3, 4)), TraceRequest((5, 2, 7, 3), position=2)
    top = trace(model, [good], {1}, {1})[0].target.token
    batch = [
        good,
        TraceRequest((1, 9, 3, 4), text=1),
        replace(good, contrast=top, text=2),
        other,
    ]
    found = dict(trace_each(model, batch, {0, 1}, {1}))
    kinds = [getattr(found[index], "kind", None) for index in range(4)]
    assert kinds == [None, ProblemType.NOT_FINITE, ProblemType.INVALID_REQUEST, None]
    for index, request in ((0, good), (3, other)):
        together, alone = found[index], trace(model, [request], {0, 1}, {1})[0]
        assert isinstance(together, TextTrace)
        ours, theirs = (text.mixers[1].capture.output_gradient for text in (together, alone))
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * float(theirs.abs().max()))


def test_a_model_in_half_precision_gives_float32_traces(loaded: LoadedModel) -> None:
    half = copy.deepcopy(loaded.model).bfloat16()
    text = trace(replace(loaded, model=half), TEXTS[:1], LAYERS, {1})[0]
    maps = text.mixers[1].summary([Weighting.GRADIENT])
    assert {text.logits.dtype, maps.mean_mixed.dtype, maps.pulled.dtype} == {torch.float32}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (TraceRequest(()), "without tokens"),
        (TraceRequest((1, 2), position=2), "outside a text of 2 tokens"),
        (TraceRequest((1, 2), position=-3), "outside a text of 2 tokens"),
    ],
)
def test_requests_that_cannot_be_traced(
    loaded: LoadedModel, request_: TraceRequest, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trace(loaded, [request_], LAYERS, set())


def test_gradient_layers_must_be_traced(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="must be among layers"):
        trace(loaded, TEXTS[:1], {0}, {1})


def test_a_transformer_gives_logits_and_its_attention(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, save_gpt2)
    found = trace(loaded, TEXTS, {0, 1}, {0, 1})
    for request, text in zip(TEXTS, found, strict=True):
        own = _full_logits(loaded, request.ids)[request.position]
        torch.testing.assert_close(text.logits, own, rtol=1e-5, atol=1e-5)
        for layer in (0, 1):
            assert float(text.mixers[layer].summary().reconstruction_error) < 1e-5
