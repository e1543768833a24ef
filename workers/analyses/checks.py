"""Self-checks that travel with every result, and the problems they end in.

An error is a tensor of no axes, in float64, on the device of what it checks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from schemas.problem import ProblemError, ProblemType
from workers.relative_error import relative_error


def row_sum_error(matrix: Tensor, expected: Tensor, added: Tensor) -> Tensor:
    """How far a matrix's row sums are from what a linear-time scan gives for them.

    max_t |sum_s K[t,s] - expected[t]| / max_t max(added[t], sum_s |K[t,s]|)

    The scale is what was added up, `added` over channels: where signs cancel, a sum may be small
    while its rounding is not. Shapes: matrix (rows, l), expected and added (rows,); cost O(rows l).
    Infinity where it is no number.
    """
    sums = matrix.sum(1, dtype=torch.float64)
    wanted = expected.to(torch.float64)
    size = matrix.abs().sum(1, dtype=torch.float64)
    difference = (sums - wanted).abs().max()
    return relative_error(difference, torch.maximum(size, added.to(torch.float64)).max())


def sums_error(after: Tensor, before: Tensor) -> Tensor:
    """The worst row's change of its sum, of rows (k, l), relative to its sum of magnitudes.

    Of `after` or `before`, whichever is larger.
    """
    new, old = after.to(torch.float64), before.to(torch.float64)
    difference = (new.sum(1) - old.sum(1)).abs()
    return relative_error(difference, torch.maximum(new.abs().sum(1), old.abs().sum(1))).max()


@dataclass
class Checks:
    """One layer's self-checks, which are judged together: so a GPU is waited for once a layer."""

    layer: int
    tolerance: float
    _pending: list[tuple[Tensor, Callable[[float], None]]] = field(default_factory=list)

    def add(self, number: Tensor, judge: Callable[[float], None]) -> None:
        """Have `judge` look at a number, a tensor of no axes, when all are settled."""
        self._pending.append((number, judge))

    def agreement(self, what: str, error: Tensor) -> None:
        """Want the error within the tolerance: `require_agreement`."""
        layer, tolerance = self.layer, self.tolerance
        self.add(error, lambda found: require_agreement(what, layer, found, tolerance))

    def finite(self, what: str, tensors: dict[str, Tensor]) -> None:
        """Want every tensor without infinity and NaN: `require_finite`."""
        for name, tensor in tensors.items():
            judge = partial(require_finite, f"{name} of {what}", self.layer)
            self.add(torch.isfinite(tensor).all(), judge)

    def settle(self) -> None:
        """Bring all numbers to the host at once and judge them in their order.

        Raises what the judges raise, ProblemError.
        """
        if self._pending:
            numbers, judges = zip(*self._pending, strict=True)
            self._pending = []
            on_host = torch.stack([number.double() for number in numbers]).tolist()
            for judge, found in zip(judges, on_host, strict=True):
                judge(found)


def require_agreement(what: str, layer: int, error: float, tolerance: float) -> None:
    """Raise ProblemError (trace-mismatch) unless `error` is a number within the tolerance."""
    if not error <= tolerance:
        raise ProblemError(
            ProblemType.TRACE_MISMATCH,
            f"Layer {layer}: the {what} is {error:.3g}, above the tolerance {tolerance:.3g}, so "
            "the trace is not what the model computed and nothing drawn from it would hold. "
            "Leave this layer out, or have the operator raise the tolerance if the difference is "
            "rounding: MAMBASCOPE_RECONSTRUCTION_TOLERANCE for all models, MAMBASCOPE_MODELS for "
            "this one, as one in half precision needs.",
        )


def require_finite(what: str, layer: int, finite: float) -> None:
    """Raise ProblemError (not-finite) if `finite` is zero: something holds infinity or NaN."""
    if not finite:
        raise ProblemError(
            ProblemType.NOT_FINITE,
            f"Layer {layer}: the {what} holds infinities or NaN. Leave this layer or method out, "
            "or check the model's weights.",
        )
