"""The S6 trace against a float64 twin of the whole mixer, for each architecture and its biases."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, MambaForCausalLM
from transformers.models.zamba.modeling_zamba import ZambaMambaMixer

from schemas import pieces
from schemas.names import Mixer
from tests.reference.s6_mixer import Array, MixerRun, Norm, run_mixer
from tests.tiny_architectures import save_falcon_mamba, save_jamba, save_zamba
from tests.tiny_models import save_gpt2, save_mamba
from workers.mixers import adapter_for, mixers_of
from workers.mixers.mamba import MambaAdapter
from workers.mixers.protocol import Capture, Read, Weighting
from workers.mixers.s6 import S6Trace

LAYER = 1
LENGTH = 21
VARIANTS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "conv bias": (save_mamba, {}),
    "all biases": (save_mamba, {"bias": True}),
    "no bias": (save_mamba, {"conv_bias": False}),
    "wide kernel": (
        save_mamba,
        {"conv_kernel": 4, "bias": True, "time_step_rank": "auto", "expand": 3},
    ),
    "norms": (save_falcon_mamba, {"use_bias": True, "mixer_rms_eps": 0.01}),
    "norms with weights": (save_jamba, {"mamba_proj_bias": True, "rms_norm_eps": 0.01}),
    "heads": (save_zamba, {}),
    "three heads": (
        save_zamba,
        {"n_mamba_heads": 3, "mamba_expand": 3, "mamba_proj_bias": True, "mamba_conv_bias": False},
    ),
}
NORMS = ("dt_layernorm", "b_layernorm", "c_layernorm")


@pytest.fixture(scope="module", params=VARIANTS)
def mixer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    save, options = VARIANTS[request.param]
    path = save(tmp_path_factory.mktemp("model"), **options)
    return mixers_of(AutoModelForCausalLM.from_pretrained(path).eval())[LAYER]


@pytest.fixture(scope="module")
def capture(mixer: Any) -> Capture:
    return _capture(mixer, LENGTH)


@pytest.fixture(scope="module")
def trace(mixer: Any, capture: Capture) -> S6Trace:
    return _trace(mixer, capture)


@pytest.fixture(scope="module")
def twin(mixer: Any, capture: Capture) -> MixerRun:
    return _twin(mixer, capture)


def _capture(mixer: Any, length: int, seed: int = 0) -> Capture:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(length, 48, generator=generator)
    gradient = torch.randn(length, 48, generator=generator)
    with torch.no_grad():
        return Capture(LAYER, hidden, mixer(hidden[None])[0], gradient)


def _trace(mixer: Any, capture: Capture) -> S6Trace:
    adapter = adapter_for(mixer)
    assert adapter is not None
    found = adapter.trace(mixer, capture)
    assert isinstance(found, S6Trace)
    return found


def _twin(mixer: Any, capture: Capture) -> MixerRun:
    weights = {name: value.detach().double().numpy() for name, value in mixer.named_parameters()}
    hidden = capture.hidden.double().numpy()
    if isinstance(mixer, ZambaMambaMixer):
        return run_mixer(_as_of_a_mamba(weights), hidden, heads=mixer.n_mamba_heads)
    norms = [_norm(mixer, name, weights) for name in NORMS] if hasattr(mixer, NORMS[0]) else None
    return run_mixer(weights, hidden, norms=norms)


def _norm(mixer: Any, name: str, weights: dict[str, Array]) -> Norm:
    norm = getattr(mixer, name)
    epsilon = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return weights.get(f"{name}.weight"), epsilon


def _as_of_a_mamba(zamba: dict[str, Array]) -> dict[str, Array]:
    """The weights of a Zamba's mixer by the names of a Mamba's, u's projection before z's."""
    d = zamba["D"].size
    renamed = {
        "A_log": zamba["A_log"].reshape(d, -1),
        "D": zamba["D"].reshape(d),
        "x_proj.weight": zamba["x_proj_weight"],
        "dt_proj.weight": zamba["dt_proj_weight"].reshape(d, -1),
        "dt_proj.bias": zamba["dt_proj_bias"].reshape(d),
    }
    for name in ("in_proj.weight", "in_proj.bias"):
        if name in zamba:
            renamed[name] = np.concatenate([zamba[name][0::2], zamba[name][1::2]])
    return {**zamba, **renamed}


def _close(ours: Tensor, reference: Any, tolerance: float = 1e-5) -> None:
    """Largest difference relative to the largest value: float32 against float64."""
    ours_array = ours.double().numpy()
    assert ours_array.shape == reference.shape
    assert np.abs(ours_array - reference).max() <= tolerance * np.abs(reference).max()


def test_twin_is_the_model_itself(twin: MixerRun, capture: Capture) -> None:
    _close(capture.output, twin.output)


@pytest.mark.parametrize("query", [0, 1, 2, 9, LENGTH - 1])
def test_twin_decomposition_is_exact(twin: MixerRun, query: int) -> None:
    total = twin.contributions(query).sum(0) + twin.bias_part(query)
    assert np.abs(total - twin.output[query]).max() < 1e-10


@pytest.mark.parametrize("border", [0, 1, 3, 11])
def test_a_piece_is_that_part_of_the_mixer(trace: S6Trace, twin: MixerRun, border: int) -> None:
    piece = trace.weights.piece(trace.capture.hidden, border, LENGTH)
    for name in ("delta", "B", "C", "x", "conv_input", "conv_output", "gate"):
        _close(getattr(piece, name), getattr(twin, name)[border:])
    _close(trace.weights.A, twin.A)
    assert (trace.length, trace.channels, trace.layer) == (LENGTH, twin.x.shape[1], LAYER)
    assert trace.family is Mixer.S6


def _weighted(trace: S6Trace, twin: MixerRun, weighting: Weighting) -> Any:
    """(d, t, s) in float64."""
    if weighting is Weighting.PLAIN:
        return twin.alpha
    gradient = trace.capture.output_gradient.double().numpy() @ twin.out_weight
    gradient *= twin.gate / (1 + np.exp(-twin.gate))
    return np.einsum("td,sd,dts->dts", gradient, twin.x, twin.alpha)


@pytest.mark.parametrize("weighting", list(Weighting))
def test_matrices_and_their_reads_equal_the_reference(
    trace: S6Trace, twin: MixerRun, weighting: Weighting
) -> None:
    reference = _weighted(trace, twin, weighting).mean(0)
    (matrix,) = trace.matrices([weighting])
    _close(matrix, reference)
    r = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(4))
    (rows,) = trace.read([Read(r, weighting)], LENGTH)
    _close(rows, r.double().numpy() @ reference)


def test_gradient_guided_is_the_gradient_of_an_explicit_alpha_times_it(
    trace: S6Trace, twin: MixerRun
) -> None:
    """d target / d alpha times alpha, by autograd in float64."""
    alpha = torch.tensor(twin.alpha, requires_grad=True)
    x, D, gate, weight = map(torch.tensor, (twin.x, twin.D, twin.gate, twin.out_weight))
    mixed = torch.einsum("dts,sd->td", alpha, x) + D * x
    output = (mixed * torch.nn.functional.silu(gate)) @ weight.T
    assert trace.capture.output_gradient is not None
    (gradient,) = torch.autograd.grad(
        (output * trace.capture.output_gradient.double()).sum(), alpha
    )
    (matrix,) = trace.matrices([Weighting.GRADIENT])
    _close(matrix, (gradient * alpha).mean(0).detach().numpy())


def test_pieces_say_what_the_whole_text_says(
    mixer: Any, capture: Capture, twin: MixerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "READ", 4)
    trace = _trace(mixer, capture)
    found = trace.summary(list(Weighting))
    t, s = np.tril_indices(LENGTH)
    r = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(4))
    for weighting in Weighting:
        weighted = _weighted(trace, twin, weighting)
        _close(found.row_sums[weighting], weighted.mean(0).sum(1))
        _close(found.spreads[weighting], weighted[:, t, s].std(1))
        (rows,) = trace.read([Read(r, weighting)], LENGTH)
        _close(rows, r.double().numpy() @ weighted.mean(0))
    _close(found.mean_mixed, np.einsum("dts,sd->td", twin.alpha, twin.x).mean(0))
    _close(trace.gather(r), r.double().numpy() @ twin.x)
    (part,) = trace.contributions([LENGTH - 2])
    _close(part.norm, np.linalg.norm(twin.contributions(LENGTH - 2), axis=1))
    assert "whole" not in vars(trace)


def test_a_read_may_stop_early(trace: S6Trace, twin: MixerRun) -> None:
    r = torch.zeros(1, LENGTH)
    r[0, 7] = 1.0
    (row,) = trace.read([Read(r, Weighting.PLAIN)], 8)
    _close(row[0], twin.alpha.mean(0)[7])
    assert not row[0, 8:].any()


def test_summary_equals_the_reference(trace: S6Trace, twin: MixerRun) -> None:
    found = trace.summary(list(Weighting))
    t, s = np.tril_indices(LENGTH)
    for weighting in Weighting:
        weighted = _weighted(trace, twin, weighting)
        _close(found.row_sums[weighting], weighted.mean(0).sum(1))
        assert (found.added[weighting].numpy() >= np.abs(weighted.mean(0).sum(1))).all()
        _close(found.spreads[weighting], weighted[:, t, s].std(1))
        if weighting is Weighting.GRADIENT:
            assert found.pulled is not None
            _close(found.pulled, weighted.sum((1, 2)))
    _close(found.mean_mixed, np.einsum("dts,sd->td", twin.alpha, twin.x).mean(0))
    assert 0.0 < found.reconstruction_error < 1e-5


def test_values_are_gathered_by_rows(trace: S6Trace, twin: MixerRun) -> None:
    r = torch.randn(3, LENGTH, generator=torch.Generator().manual_seed(4))
    _close(trace.gather(r), r.double().numpy() @ twin.x)


@pytest.mark.parametrize("query", [0, 1, 2, 9, LENGTH - 1])
def test_contribution_equals_the_reference(trace: S6Trace, twin: MixerRun, query: int) -> None:
    gradient = trace.capture.output_gradient[query].double().numpy()
    vectors = twin.contributions(query)
    (found,) = trace.contributions([query])
    _close(found.norm, np.linalg.norm(vectors, axis=1))
    assert not found.norm[query + 1 :].any()
    _close(found.signed, vectors @ gradient)
    y = np.einsum("ds,sd->d", twin.alpha[:, query], twin.x) + twin.D * twin.x[query]
    gate = twin.gate[query] / (1 + np.exp(-twin.gate[query]))
    _close(found.effect, (gradient @ twin.out_weight) * y * gate)
    bias = float(twin.bias_part(query) @ gradient)
    assert found.bias_signed == pytest.approx(bias, rel=1e-4, abs=1e-9)
    assert found.error < 1e-5


@pytest.mark.parametrize("name", ["D", "conv_weight", "in_weight", "out_weight"])
def test_a_part_that_is_left_out_shows_as_an_error(trace: S6Trace, name: str) -> None:
    without = replace(trace.weights, **{name: torch.zeros_like(getattr(trace.weights, name))})
    (found,) = S6Trace(without, trace.capture).contributions([LENGTH - 1])
    assert found.error > 1e-3


@pytest.mark.parametrize("mixer", ["norms", "norms with weights"], indirect=True)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_that_is_left_out_shows_as_an_error(trace: S6Trace, name: str) -> None:
    norms = list(trace.weights.norms or ())
    norms[NORMS.index(name)] = lambda values: values
    without = replace(trace.weights, norms=tuple(norms))
    assert S6Trace(without, trace.capture).summary().reconstruction_error > 1e-3


@pytest.mark.parametrize("mixer", ["heads", "three heads"], indirect=True)
def test_heads_that_are_exchanged_show_as_an_error(trace: S6Trace) -> None:
    turned = trace.weights.selection.roll(len(trace.weights.selection) // trace.weights.heads, 0)
    other = replace(trace.weights, selection=turned)
    assert S6Trace(other, trace.capture).summary().reconstruction_error > 1e-3


def test_contributions_add_up_to_the_models_own_output(
    mixer: Any, capture: Capture, twin: MixerRun
) -> None:
    """In float32, seen along several random directions of the output."""
    query = LENGTH - 1
    bias = twin.bias_part(query)
    for direction in torch.randn(4, 48, generator=torch.Generator().manual_seed(6)):
        gradient = torch.zeros(LENGTH, 48)
        gradient[query] = direction
        traced = _trace(mixer, Capture(LAYER, capture.hidden, capture.output, gradient))
        (found,) = traced.contributions([query])
        total = float(found.signed.double().sum()) + float(bias @ direction.double().numpy())
        scale = float(capture.output[query].norm() * direction.norm())
        assert abs(total - float(capture.output[query] @ direction)) < 1e-5 * scale


def test_reconstruction_error_sees_an_output_that_is_not_the_traces(
    mixer: Any, capture: Capture
) -> None:
    off = capture.output.clone()
    off[3, 5] += 0.01 * off.abs().max()
    traced = _trace(mixer, Capture(LAYER, capture.hidden, off, None))
    assert traced.summary().reconstruction_error == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("where", ["hidden", "output"])
def test_reconstruction_error_of_no_number_is_infinite(
    mixer: Any, capture: Capture, where: str
) -> None:
    broken = getattr(capture, where).clone()
    broken[3, 5] = float("nan")
    traced = _trace(mixer, replace(capture, **{where: broken}))
    assert traced.summary().reconstruction_error == float("inf")


def test_reconstruction_error_of_an_output_of_zeros(mixer: Any, capture: Capture) -> None:
    silent = replace(capture, output=torch.zeros_like(capture.output))
    assert _trace(mixer, silent).summary().reconstruction_error == float("inf")


def test_one_token(mixer: Any) -> None:
    capture = _capture(mixer, 1)
    trace, twin = _trace(mixer, capture), _twin(mixer, capture)
    # Not the matrix: its one entry is a mean over channels in which terms of both signs cancel.
    (found,) = trace.contributions([0])
    _close(found.norm, np.linalg.norm(twin.contributions(0), axis=1))
    assert trace.summary().reconstruction_error < 1e-5


def test_untraced_gradient_is_an_error_not_a_guess(mixer: Any, capture: Capture) -> None:
    traced = _trace(mixer, Capture(LAYER, capture.hidden, capture.output, None))
    assert traced.summary().pulled is None
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        traced.summary([Weighting.GRADIENT])
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        traced.matrices([Weighting.GRADIENT])
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        next(traced.contributions([3]))


def test_half_precision_mixer_is_traced_in_float32(tmp_path: Path) -> None:
    path = save_mamba(tmp_path, dtype=torch.bfloat16)
    module = mixers_of(MambaForCausalLM.from_pretrained(path, dtype=torch.bfloat16))[LAYER]
    hidden = torch.randn(9, 48, dtype=torch.bfloat16)
    with torch.no_grad():
        output = module(hidden[None])[0]
    traced = MambaAdapter().trace(module, Capture(LAYER, hidden, output, None))
    assert {traced.whole.x.dtype, traced.weights.A.dtype} == {torch.float32}
    # bfloat16 keeps 8 bits, so its own output is only good to about 1%.
    assert traced.summary().reconstruction_error < 0.05


def test_other_activations_are_objected_to(tmp_path: Path) -> None:
    path = save_mamba(tmp_path, hidden_act="gelu")
    module = mixers_of(MambaForCausalLM.from_pretrained(path))[LAYER]
    objection = MambaAdapter().objection(module)
    assert objection is not None
    assert "layer 1 has hidden_act 'gelu'" in objection


def test_silu_is_not_objected_to(mixer: Any) -> None:
    adapter = adapter_for(mixer)
    assert adapter is not None
    assert adapter.objection(mixer) is None


def test_mixers_are_found_by_layer(tmp_path: Path) -> None:
    model = MambaForCausalLM.from_pretrained(save_mamba(tmp_path / "mamba"))
    assert list(mixers_of(model)) == [0, 1, 2]
    assert mixers_of(model)[2] is model.backbone.layers[2].mixer
    assert adapter_for(model.backbone.layers[0].norm) is None


def test_a_transformers_mixers_are_its_attention_modules(tmp_path: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(save_gpt2(tmp_path))
    assert mixers_of(model) == {0: model.transformer.h[0].attn, 1: model.transformer.h[1].attn}
