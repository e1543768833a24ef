"""The SSD trace against a float64 twin of the whole mixer with an explicit alpha."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Mamba2ForCausalLM

from schemas import pieces
from schemas.names import Mixer
from tests.reference.ssd_explicit import ExplicitRun, run_explicit
from tests.tiny_architectures import save_mamba2
from workers.mixers import mixers_of
from workers.mixers.mamba2 import Mamba2Adapter
from workers.mixers.protocol import Capture, Read, Weighting
from workers.mixers.ssd import SSDTrace
from workers.mixers.ssd_pieces import Gate

LAYER = 1
LENGTH = 45
VARIANTS: dict[str, dict[str, Any]] = {
    "two groups": {},
    "one group, all biases": {"n_groups": 1, "use_bias": True},
    "no convolution bias, limited step": {
        "use_conv_bias": False,
        "time_step_limit": (0.3, 0.9),
        "conv_kernel": 4,
    },
}


@pytest.fixture(scope="module", params=VARIANTS)
def mixer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = save_mamba2(tmp_path_factory.mktemp("mamba2"), **VARIANTS[request.param])
    return mixers_of(Mamba2ForCausalLM.from_pretrained(path).eval())[LAYER]


@pytest.fixture(scope="module")
def capture(mixer: Any) -> Capture:
    return _capture(mixer, LENGTH)


@pytest.fixture(scope="module")
def trace(mixer: Any, capture: Capture) -> SSDTrace:
    return Mamba2Adapter().trace(mixer, capture)


@pytest.fixture(scope="module")
def twin(mixer: Any, capture: Capture) -> ExplicitRun:
    return run_explicit(mixer, capture.hidden)


def _capture(mixer: Any, length: int) -> Capture:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(length, 48, generator=generator)
    gradient = torch.randn(length, 48, generator=generator)
    with torch.no_grad():
        return Capture(LAYER, hidden, mixer(hidden[None])[0], gradient)


def _close(ours: Tensor, reference: Tensor, tolerance: float = 2e-5) -> None:
    """Largest difference relative to the largest value: float32 against float64."""
    assert ours.shape == reference.shape
    assert float((ours.double() - reference).abs().max()) <= tolerance * float(
        reference.abs().max()
    )


def _weighted(capture: Capture, twin: ExplicitRun, weighting: Weighting) -> Tensor:
    """(d, t, s): alpha, or its gradient times itself, by autograd through the explicit tensor."""
    alpha = twin.wide_alpha
    if weighting is Weighting.PLAIN:
        return alpha
    alpha = alpha.clone().requires_grad_()
    target = (twin.project(twin.neurons(alpha)) * capture.gradient().double()).sum()
    (gradient,) = torch.autograd.grad(target, alpha)
    return (gradient * alpha).detach().tril()


def test_twin_is_the_model_itself(twin: ExplicitRun, capture: Capture) -> None:
    _close(capture.output, twin.project(twin.neurons(twin.wide_alpha)))


@pytest.mark.parametrize("weighting", list(Weighting))
def test_matrices_and_their_reads_equal_the_reference(
    trace: SSDTrace, capture: Capture, twin: ExplicitRun, weighting: Weighting
) -> None:
    reference = _weighted(capture, twin, weighting).mean(0)
    (matrix,) = trace.matrices([weighting])
    _close(matrix, reference)
    r = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(4))
    (rows,) = trace.read([Read(r, weighting)], LENGTH)
    _close(rows, r.double() @ reference)


def test_summary_equals_the_reference(trace: SSDTrace, capture: Capture, twin: ExplicitRun) -> None:
    found = trace.summary(list(Weighting))
    t, s = torch.tril_indices(LENGTH, LENGTH)
    for weighting in Weighting:
        weighted = _weighted(capture, twin, weighting)
        _close(found.row_sums[weighting], weighted.mean(0).sum(1))
        assert bool((found.added[weighting] >= weighted.mean(0).sum(1).abs()).all())
        _close(found.spreads[weighting], weighted[:, t, s].std(1, correction=0))
        if weighting is Weighting.GRADIENT:
            assert found.pulled is not None
            _close(found.pulled, weighted.sum((1, 2)))
    _close(found.mean_mixed, torch.einsum("dts,sd->td", twin.wide_alpha, twin.x).mean(0))
    assert 0.0 < float(found.reconstruction_error) < 1e-5


def test_values_are_gathered_by_rows(trace: SSDTrace, twin: ExplicitRun) -> None:
    r = torch.randn(3, LENGTH, generator=torch.Generator().manual_seed(4))
    _close(trace.gather(r), r.double() @ twin.x)


@pytest.mark.parametrize("query", [0, 1, 9, LENGTH - 1])
def test_contribution_equals_the_reference(
    trace: SSDTrace, capture: Capture, twin: ExplicitRun, query: int
) -> None:
    gradient = capture.gradient()[query].double()
    vectors, bias = twin.contributions(query)
    (found,) = trace.contributions([query])
    _close(found.norm, vectors.norm(dim=1))
    assert not found.norm[query + 1 :].any()
    _close(found.signed, vectors @ gradient)
    neurons = twin.neurons(twin.wide_alpha)[query]
    _close(found.effect, (gradient @ twin.weights["out_proj.weight"]) * neurons)
    assert float(found.bias_signed) == pytest.approx(float(bias @ gradient), rel=1e-4, abs=1e-6)
    assert float(found.error) < 1e-5


@pytest.mark.parametrize("name", ["D", "conv_weight", "in_weight", "out_weight"])
def test_a_part_that_is_left_out_shows_as_an_error(trace: SSDTrace, name: str) -> None:
    without = replace(trace.weights, **{name: torch.zeros_like(getattr(trace.weights, name))})
    (found,) = SSDTrace(without, trace.capture).contributions([LENGTH - 1])
    assert float(found.error) > 1e-3


def test_pieces_give_what_the_whole_text_gives(
    mixer: Any, capture: Capture, trace: SSDTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trace.summary(list(Weighting))
    r = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(4))
    reads = [Read(r, kind) for kind in Weighting]
    rows, at_last = trace.read(reads, LENGTH), list(trace.contributions([7, LENGTH - 1]))
    monkeypatch.setattr(pieces, "READ_SSD", 13)
    cut = Mamba2Adapter().trace(mixer, capture)
    for found, wanted in zip(cut.read(reads, LENGTH), rows, strict=True):
        _close(found, wanted)
    for part, wanted_part in zip(cut.contributions([7, LENGTH - 1]), at_last, strict=True):
        _close(part.norm, wanted_part.norm)
        _close(part.effect, wanted_part.effect)
    _close(cut.gather(r), trace.gather(r))
    found = cut.summary(list(Weighting))
    for kind in Weighting:
        _close(found.spreads[kind], whole.spreads[kind])
        _close(found.row_sums[kind], whole.row_sums[kind])
    assert float(found.reconstruction_error) < 1e-5


def test_reconstruction_error_sees_an_output_that_is_not_the_traces(
    mixer: Any, capture: Capture
) -> None:
    off = capture.output.clone()
    off[3, 5] += 0.01 * off.abs().max()
    traced = Mamba2Adapter().trace(mixer, Capture(LAYER, capture.hidden, off, None))
    assert float(traced.summary().reconstruction_error) == pytest.approx(0.01, rel=0.02)


def test_one_token_and_what_was_not_traced(mixer: Any) -> None:
    capture = _capture(mixer, 1)
    trace = Mamba2Adapter().trace(mixer, replace(capture, output_gradient=None))
    assert (trace.length, trace.channels, trace.layer) == (1, 96, LAYER)
    assert trace.family is Mixer.SSD
    summary = trace.summary([Weighting.PLAIN])
    assert float(summary.reconstruction_error) < 1e-5
    assert not summary.spreads[Weighting.PLAIN].any()
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        next(trace.contributions([0]))
    with pytest.raises(ValueError, match="layer 1 was not traced"):
        trace.matrices([Weighting.GRADIENT])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gates_gradient_is_autograds(norm_first: bool, weighted: bool) -> None:
    y, z, outer = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))
    weight = torch.linspace(0.5, 2.0, 12) if weighted else None
    gate = Gate(weight, groups=3, eps=1e-5, norm_first=norm_first)
    y.requires_grad_()
    neurons = gate.gain(y, z) * y
    (wanted,) = torch.autograd.grad(neurons, y, outer)
    _close(gate.pull(outer, y.detach(), z), wanted.double())
