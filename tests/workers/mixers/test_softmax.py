"""The trace of softmax attention against an explicit alpha in float64, for every kind of head."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas import pieces
from schemas.names import Mixer
from tests.reference import softmax as slow
from workers.kernels.softmax import Heads
from workers.mixers.protocol import Capture, Read, Weighting
from workers.mixers.softmax import SoftmaxTrace

LENGTH, HIDDEN = 37, 10
VARIANTS: dict[str, dict[str, Any]] = {
    "a key a head": {},
    "shared keys": {"shared": 2},
    "a window": {"window": 5},
    "a cap, no bias": {"cap": 2.0, "bias": False},
    "sinks": {"sinks": torch.linspace(-1.0, 1.0, 4), "shared": 4},
}


@dataclass(frozen=True)
class Case:
    """A random layer, and alpha, values and weights in float64."""

    trace: SoftmaxTrace
    alpha: Tensor
    x: Tensor
    out_weight: Tensor

    def weighted(self, weighting: Weighting) -> Tensor:
        """(d, t, s): alpha, or its gradient times itself, by autograd through the explicit one."""
        wide = self.alpha.repeat_interleave(self.x.shape[1] // len(self.alpha), 0)
        if weighting is Weighting.PLAIN:
            return wide
        wide.requires_grad_()
        output = torch.einsum("dts,sd->td", wide, self.x) @ self.out_weight.T
        target = (output * self.trace.capture.gradient().double()).sum()
        (gradient,) = torch.autograd.grad(target, wide)
        return (gradient * wide).detach().tril()


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest) -> Case:
    return _case(**VARIANTS[request.param])


def _case(
    length: int = LENGTH,
    shared: int = 1,
    bias: bool = True,
    window: int | None = None,
    **options: Any,
) -> Case:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if window is not None:
        every = torch.ones(length, length, dtype=torch.bool)
        options["reach"] = every.tril() & ~every.tril(-window)
    heads = Heads(
        draw(4, length, 6), draw(4 // shared, length, 6), draw(4 // shared, length, 3), 0.7,
        **options,
    )  # fmt: skip
    sinks = None if heads.sinks is None else heads.sinks.double().numpy()
    q, k = heads.queries.double().numpy(), heads.keys.double().numpy()
    alpha = torch.from_numpy(slow.alpha(q, k, 0.7, window, heads.cap, sinks))
    x = heads.values.double().repeat_interleave(shared, 0).transpose(0, 1).reshape(length, 12)
    weight, offset = draw(HIDDEN, 12), draw(HIDDEN) if bias else None
    mixed = torch.einsum("dts,sd->td", alpha.repeat_interleave(3, 0), x)
    output = mixed @ weight.double().T + (0 if offset is None else offset.double())
    capture = Capture(2, draw(length, HIDDEN), output.float(), draw(length, HIDDEN))
    return Case(SoftmaxTrace(heads, weight, offset, capture), alpha, x, weight.double())


def _close(ours: Tensor, reference: Tensor, tolerance: float = 5e-6) -> None:
    """Largest difference relative to the largest value: float32 against float64."""
    assert ours.shape == reference.shape
    difference = float((ours.double() - reference).abs().max())
    assert difference <= tolerance * float(reference.abs().max())


@pytest.fixture(params=[1 << 22, 500], ids=["one block", "blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ATTENTION", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("weighting", list(Weighting))
def test_matrices_and_their_reads_equal_the_reference(case: Case, weighting: Weighting) -> None:
    reference = case.weighted(weighting).mean(0)
    (matrix,) = case.trace.matrices([weighting])
    _close(matrix, reference)
    r = torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(4))
    (rows,) = case.trace.read([Read(r, weighting)], LENGTH)
    _close(rows, r.double() @ reference)
    r[:, 20:] = 0.0
    (early,) = case.trace.read([Read(r, weighting)], 20)
    _close(early, r.double() @ reference)


@pytest.mark.usefixtures("_blocks")
def test_summary_equals_the_reference(case: Case) -> None:
    found = case.trace.summary(list(Weighting))
    t, s = torch.tril_indices(LENGTH, LENGTH)
    for weighting in Weighting:
        weighted = case.weighted(weighting)
        _close(found.row_sums[weighting], weighted.mean(0).sum(1))
        assert bool((found.added[weighting] >= weighted.mean(0).sum(1).abs() - 1e-5).all())
        _close(found.spreads[weighting], weighted[:, t, s].std(1, correction=0))
    assert found.pulled is not None
    _close(found.pulled, case.weighted(Weighting.GRADIENT).sum((1, 2)))
    _close(
        found.mean_mixed, torch.einsum("dts,sd->td", case.weighted(Weighting.PLAIN), case.x).mean(0)
    )
    assert 0.0 < float(found.reconstruction_error) < 1e-5


@pytest.mark.parametrize("query", [0, 1, 9, LENGTH - 1])
def test_contribution_is_exact(case: Case, query: int) -> None:
    trace, gradient = case.trace, case.trace.capture.gradient()[query].double()
    reads = (case.weighted(Weighting.PLAIN)[:, query].T * case.x)[: query + 1]
    (found,) = trace.contributions([query])
    _close(found.norm[: query + 1], (reads @ case.out_weight.T).norm(dim=1))
    assert not found.norm[query + 1 :].any()
    _close(found.signed[: query + 1], reads @ case.out_weight.T @ gradient)
    _close(found.effect, (gradient @ case.out_weight) * reads.sum(0))
    total = float(found.signed.sum() + found.bias_signed)
    assert total == pytest.approx(float(trace.capture.output[query].double() @ gradient), rel=1e-3)
    assert float(found.error) < 1e-5


def test_values_are_gathered_by_rows(case: Case) -> None:
    r = torch.randn(3, LENGTH, generator=torch.Generator().manual_seed(4))
    _close(case.trace.gather(r), r.double() @ case.x)


def test_an_output_that_is_not_the_traces_is_seen(case: Case) -> None:
    off = case.trace.capture.output.clone()
    off[3, 5] += 0.01 * off.abs().max()
    wrong = replace(case.trace, capture=replace(case.trace.capture, output=off))
    assert float(wrong.summary().reconstruction_error) == pytest.approx(0.01, rel=0.05)
    assert float(next(wrong.contributions([3])).error) == pytest.approx(0.01, rel=0.05)


def test_one_token_and_what_was_not_traced() -> None:
    case = _case(length=1)
    capture = replace(case.trace.capture, output_gradient=None)
    trace = replace(case.trace, capture=capture)
    assert (trace.length, trace.channels, trace.layer) == (1, 12, 2)
    assert trace.family is Mixer.SOFTMAX
    summary = trace.summary([Weighting.PLAIN])
    assert float(summary.reconstruction_error) < 1e-5
    assert not summary.spreads[Weighting.PLAIN].any()
    with pytest.raises(ValueError, match="layer 2 was not traced"):
        next(trace.contributions([0]))
    with pytest.raises(ValueError, match="layer 2 was not traced"):
        trace.matrices([Weighting.GRADIENT])


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k = torch.ones(4, 5, 6), torch.ones(3, 5, 6)
    with pytest.raises(ValueError, match="do not go together"):
        Heads(q, k, k, 1.0)
