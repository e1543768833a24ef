"""The S6 trace against a float64 twin of the whole mixer, for each choice of biases."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, MambaForCausalLM

from schemas.names import Mixer
from tests.reference.s6_mixer import MixerRun, run_mixer
from tests.tiny_models import save_gpt2, save_mamba
from workers.mixers import adapter_for, mixers_of
from workers.mixers.protocol import Capture
from workers.mixers.s6 import MambaAdapter, S6Trace

LAYER = 1
LENGTH = 21
VARIANTS: dict[str, dict[str, Any]] = {
    "conv bias": {},
    "all biases": {"bias": True},
    "no bias": {"conv_bias": False},
    "wide kernel": {"conv_kernel": 4, "bias": True, "time_step_rank": "auto", "expand": 3},
}


@pytest.fixture(scope="module", params=VARIANTS)
def mixer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = save_mamba(tmp_path_factory.mktemp("mamba"), **VARIANTS[request.param])
    return mixers_of(MambaForCausalLM.from_pretrained(path).eval())[LAYER]


@pytest.fixture(scope="module")
def capture(mixer: Any) -> Capture:
    return _capture(mixer, LENGTH)


@pytest.fixture(scope="module")
def trace(mixer: Any, capture: Capture) -> S6Trace:
    return MambaAdapter().trace(mixer, capture)


@pytest.fixture(scope="module")
def twin(mixer: Any, capture: Capture) -> MixerRun:
    return _twin(mixer, capture)


def _capture(mixer: Any, length: int, seed: int = 0) -> Capture:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(length, 48, generator=generator)
    gradient = torch.randn(length, 48, generator=generator)
    with torch.no_grad():
        return Capture(LAYER, hidden, mixer(hidden[None])[0], gradient)


def _twin(mixer: Any, capture: Capture) -> MixerRun:
    weights = {name: value.detach().double().numpy() for name, value in mixer.named_parameters()}
    return run_mixer(weights, capture.hidden.double().numpy())


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


def test_trace_recomputes_every_tensor(trace: S6Trace, twin: MixerRun) -> None:
    for name in ("delta", "A", "B", "C", "D", "x", "conv_input", "conv_output", "gate"):
        _close(getattr(trace, name), getattr(twin, name))
    assert (trace.length, trace.channels, trace.layer) == (LENGTH, twin.x.shape[1], LAYER)
    assert trace.family is Mixer.S6
    assert trace.values is trace.x


def test_matrix_equals_the_reference(trace: S6Trace, twin: MixerRun) -> None:
    _close(trace.matrices([(None, None)])[0], twin.alpha.mean(0))


def test_weighted_matrix_equals_the_reference(trace: S6Trace, twin: MixerRun) -> None:
    p, q = torch.randn(2, LENGTH, trace.channels, generator=torch.Generator().manual_seed(3))
    reference = np.einsum("td,sd,dts->ts", p.double(), q.double(), twin.alpha) / trace.channels
    _close(trace.matrices([(p, q)])[0], reference)
    r = torch.randn(LENGTH, generator=torch.Generator().manual_seed(4))
    _close(trace.weighted_row(r, p, q), r.double().numpy() @ reference)


def test_row_is_one_query_of_alpha(trace: S6Trace, twin: MixerRun) -> None:
    row = trace.row(7)
    _close(row, twin.alpha[:, 7].T)
    assert not row[8:].any()


def test_moments_are_those_of_causal_pairs(trace: S6Trace, twin: MixerRun) -> None:
    q, s = np.tril_indices(LENGTH)
    pairs = twin.alpha[:, q, s]
    mean, std = trace.moments()
    _close(mean, pairs.mean(1))
    _close(std, pairs.std(1))


def test_mixed_leaves_out_the_skip(trace: S6Trace, twin: MixerRun) -> None:
    _close(trace.mixed(), np.einsum("dts,sd->td", twin.alpha, twin.x))


def test_neurons_are_the_input_of_the_output_projection(
    mixer: Any, capture: Capture, trace: S6Trace
) -> None:
    seen: list[Tensor] = []
    handle = mixer.out_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        mixer(capture.hidden[None])
    handle.remove()
    _close(trace.gated(), seen[0][0].double().numpy())


def test_gradients_follow_the_chain_rule(trace: S6Trace, twin: MixerRun) -> None:
    assert trace.output_gradient is not None
    at_neurons = trace.output_gradient.double().numpy() @ twin.out_weight
    _close(trace.gated_gradient(), at_neurons)
    silu = twin.gate / (1 + np.exp(-twin.gate))
    _close(trace.channel_gradient(), at_neurons * silu)


@pytest.mark.parametrize("query", [0, 1, 2, 9, LENGTH - 1])
def test_contribution_equals_the_reference(trace: S6Trace, twin: MixerRun, query: int) -> None:
    assert trace.output_gradient is not None
    vectors = twin.contributions(query)
    found = trace.contribution(query)
    _close(found.norm, np.linalg.norm(vectors, axis=1))
    assert not found.norm[query + 1 :].any()
    assert found.signed is not None
    _close(found.signed, vectors @ trace.output_gradient[query].double().numpy())
    bias = float(twin.bias_part(query) @ trace.output_gradient[query].double().numpy())
    assert found.bias_signed == pytest.approx(bias, rel=1e-4, abs=1e-9)
    assert found.error < 1e-5


@pytest.mark.parametrize("name", ["D", "conv_weight", "gate", "out_weight"])
def test_a_part_that_is_left_out_shows_as_an_error(trace: S6Trace, name: str) -> None:
    wrong = replace(trace, **{name: torch.zeros_like(getattr(trace, name))})
    assert wrong.contribution(LENGTH - 1).error > 1e-3


def test_contributions_add_up_to_the_models_own_output(
    mixer: Any, capture: Capture, twin: MixerRun
) -> None:
    """In float32, seen along several random directions of the output."""
    query = LENGTH - 1
    bias = twin.bias_part(query)
    for direction in torch.randn(4, 48, generator=torch.Generator().manual_seed(6)):
        gradient = torch.zeros(LENGTH, 48)
        gradient[query] = direction
        traced = MambaAdapter().trace(
            mixer, Capture(LAYER, capture.hidden, capture.output, gradient)
        )
        signed = traced.contribution(query).signed
        assert signed is not None
        total = float(signed.double().sum()) + float(bias @ direction.double().numpy())
        scale = float(capture.output[query].norm() * direction.norm())
        assert abs(total - float(capture.output[query] @ direction)) < 1e-5 * scale


def test_norms_do_not_depend_on_the_chunk(trace: S6Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trace.contribution(LENGTH - 1).norm
    monkeypatch.setattr("workers.mixers.s6._NORM_ROWS", 4)
    torch.testing.assert_close(trace.contribution(LENGTH - 1).norm, whole)


def test_output_is_rebuilt_from_alpha(trace: S6Trace, twin: MixerRun) -> None:
    _close(trace.rebuild(), twin.output)
    assert 0.0 < trace.reconstruction_error() < 1e-5


def test_reconstruction_error_sees_an_output_that_is_not_the_traces(
    mixer: Any, capture: Capture
) -> None:
    off = capture.output.clone()
    off[3, 5] += 0.01 * off.abs().max()
    traced = MambaAdapter().trace(mixer, Capture(LAYER, capture.hidden, off, None))
    assert traced.reconstruction_error() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("where", ["hidden", "output"])
def test_reconstruction_error_of_no_number_is_infinite(
    mixer: Any, capture: Capture, where: str
) -> None:
    broken = getattr(capture, where).clone()
    broken[3, 5] = float("nan")
    traced = MambaAdapter().trace(mixer, replace(capture, **{where: broken}))
    assert traced.reconstruction_error() == float("inf")


def test_reconstruction_error_of_an_output_of_zeros(mixer: Any, capture: Capture) -> None:
    silent = replace(capture, output=torch.zeros_like(capture.output))
    assert MambaAdapter().trace(mixer, silent).reconstruction_error() == float("inf")


def test_one_token(mixer: Any) -> None:
    capture = _capture(mixer, 1)
    trace, twin = MambaAdapter().trace(mixer, capture), _twin(mixer, capture)
    # Not the matrix: its one entry is a mean over channels in which terms of both signs cancel.
    _close(trace.row(0), twin.alpha[:, 0].T)
    _close(trace.contribution(0).norm, np.linalg.norm(twin.contributions(0), axis=1))
    assert trace.reconstruction_error() < 1e-5


def test_untraced_gradient_is_an_error_not_a_guess(mixer: Any, capture: Capture) -> None:
    traced = MambaAdapter().trace(mixer, Capture(LAYER, capture.hidden, capture.output, None))
    assert traced.contribution(3).signed is None
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        traced.channel_gradient()
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        traced.gated_gradient()


def test_half_precision_mixer_is_traced_in_float32(tmp_path: Path) -> None:
    path = save_mamba(tmp_path, dtype=torch.bfloat16)
    module = mixers_of(MambaForCausalLM.from_pretrained(path, dtype=torch.bfloat16))[LAYER]
    hidden = torch.randn(9, 48, dtype=torch.bfloat16)
    with torch.no_grad():
        output = module(hidden[None])[0]
    traced = MambaAdapter().trace(module, Capture(LAYER, hidden, output, None))
    assert {traced.x.dtype, traced.A.dtype, traced.output.dtype} == {torch.float32}
    # bfloat16 keeps 8 bits, so its own output is only good to about 1%.
    assert traced.reconstruction_error() < 0.05


def test_other_activations_are_objected_to(mixer: Any, tmp_path: Path) -> None:
    path = save_mamba(tmp_path, hidden_act="gelu")
    module = mixers_of(MambaForCausalLM.from_pretrained(path))[LAYER]
    objection = MambaAdapter().objection(module)
    assert objection is not None
    assert "layer 1 has hidden_act 'gelu'" in objection
    assert MambaAdapter().objection(mixer) is None


def test_mixers_are_found_by_layer(tmp_path: Path) -> None:
    model = MambaForCausalLM.from_pretrained(save_mamba(tmp_path / "mamba"))
    assert list(mixers_of(model)) == [0, 1, 2]
    assert mixers_of(model)[2] is model.backbone.layers[2].mixer
    assert adapter_for(model.backbone.layers[0].norm) is None


def test_a_transformer_has_none(tmp_path: Path) -> None:
    assert mixers_of(GPT2LMHeadModel.from_pretrained(save_gpt2(tmp_path))) == {}
