"""Forward and backward of a 130M-shape Mamba against transformers' own scans, on the CPU."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers import MambaForCausalLM
from transformers.utils.import_utils import is_mambapy_available

from benchmarks.agreement import require_close
from benchmarks.peers import passes
from benchmarks.row import Promise, Row
from benchmarks.shape import WHOLE, Shape, shape, text
from benchmarks.timing import Contest, Effort
from catalogue.locate import locate
from workers.mixers.s6 import S6Trace
from workers.models.loading import LoadedModel, load
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace

FORWARD, GRADIENT = 1024, 256


def rows(quick: bool) -> Iterator[Row]:
    model = shape(quick)
    settings = model.settings
    loaded = load(locate(model.name, settings), settings)
    peer = passes.load(model.directory)
    yield _forward(model, loaded, peer, quick)
    for use_mambapy in (False, True):
        yield _gradient(model, loaded, peer, quick, use_mambapy)


def _forward(model: Shape, loaded: LoadedModel, peer: MambaForCausalLM, quick: bool) -> Row:
    ids = _ids(loaded, FORWARD // 4 if quick else FORWARD)

    def other() -> Tensor:
        with passes.own_scan(peer):
            return passes.next_logits(peer, ids)

    def ours() -> Tensor:
        return passes.next_logits(loaded.model, ids)

    require_close("logits", ours(), other())
    return Contest(
        what=f"forward pass, {model.told}, L={len(ids)}",
        against="transformers' own fallback",
        promise=Promise(">=", 2.5),
        promised_at=_promised(len(ids), FORWARD),
    ).between(ours, other, _effort(quick))


def _gradient(
    model: Shape, loaded: LoadedModel, peer: MambaForCausalLM, quick: bool, use_mambapy: bool
) -> Row:
    ids, layers = _ids(loaded, GRADIENT // 4 if quick else GRADIENT), model.read
    name = "`use_mambapy=True`" if use_mambapy else "transformers' own fallback"
    contest = Contest(
        what=f"target gradient at layers {', '.join(map(str, layers))}, {model.told}, L={len(ids)}",
        against=name,
        promise=Promise(">=", 2.0 if use_mambapy else 10.0),
        promised_at=_promised(len(ids), GRADIENT),
    )
    if use_mambapy and not is_mambapy_available():
        note = "mambapy is not installed: pip install '.[bench]'"
        return Row(contest.what, contest.against, promise=contest.promise, note=note)
    ours, other = our_pass(loaded, ids, layers), other_gradients(peer, ids, layers, use_mambapy)
    for layer in layers:
        gradient = gradient_of(ours, layer)
        require_close(f"gradient at layer {layer}", gradient, other[layer])
    return contest.between(
        lambda: our_pass(loaded, ids, layers),
        lambda: other_gradients(peer, ids, layers, use_mambapy),
        _effort(quick),
    )


def our_pass(loaded: LoadedModel, ids: Sequence[int], layers: Sequence[int]) -> TextTrace:
    """The tracing pass of a job: d target / d mixer output, inputs and outputs of the layers."""
    [traced] = trace(loaded, [TraceRequest(ids)], set(layers), set(layers))
    return traced


def gradient_of(traced: TextTrace, layer: int) -> Tensor:
    """d target / d mixer output (l, m), as the pass captured it."""
    mixer = traced.mixers[layer]
    assert isinstance(mixer, S6Trace)
    gradient = mixer.capture.output_gradient
    assert gradient is not None
    return gradient


def other_gradients(
    peer: MambaForCausalLM, ids: Sequence[int], layers: Sequence[int], use_mambapy: bool
) -> dict[int, Tensor]:
    with passes.own_scan(peer, use_mambapy):
        found = passes.target_gradients(peer, [ids], layers)
    return {layer: gradient[0] for layer, gradient in found.items()}


def _ids(loaded: LoadedModel, tokens: int) -> list[int]:
    return [token.id for token in loaded.tokeniser.encode(text(tokens))]


def _promised(tokens: int, at: int) -> str:
    return f"{WHOLE.told}, L={at}" if tokens < at else ""


def _effort(quick: bool) -> Effort:
    return Effort(1, 1.0, warm=True) if quick else Effort(5, 120.0)
