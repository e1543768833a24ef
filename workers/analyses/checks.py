"""Self-checks that travel with every result, and the problems they end in."""

import torch
from torch import Tensor

from schemas.problem import ProblemError, ProblemType
from workers.relative_error import relative_error


def row_sum_error(matrix: Tensor, expected: Tensor) -> float:
    """How far a matrix's row sums are from what a linear-time scan gives for them.

    max_t |sum_s K[t,s] - expected[t]| / max_t max(|expected[t]|, sum_s |K[t,s]|)

    The scale is what was added up: where signs cancel, a sum may be small while its rounding is
    not. Shapes: matrix (rows, l), expected (rows,); cost O(rows l). Infinity where it is no number.
    """
    sums = matrix.sum(1, dtype=torch.float64)
    wanted = expected.to(torch.float64)
    size = matrix.abs().sum(1, dtype=torch.float64)
    difference = float((sums - wanted).abs().max())
    return relative_error(difference, float(torch.maximum(size, wanted.abs()).max()))


def total_error(sums: Tensor, others: Tensor) -> float:
    """How far the sums of two vectors (l,) are apart that add up the same matrix two ways.

    Relative to the sum of magnitudes of either, whichever is larger.
    """
    wide = [values.to(torch.float64) for values in (sums, others)]
    difference = float((wide[0].sum() - wide[1].sum()).abs())
    return relative_error(difference, max(float(values.abs().sum()) for values in wide))


def sums_error(after: Tensor, before: Tensor) -> float:
    """The worst row's change of its sum, of rows (k, l), relative to its sum of magnitudes."""
    pairs = zip(after, before, strict=True)
    return max(total_error(new, old) for new, old in pairs)


def require_agreement(what: str, layer: int, error: float, tolerance: float) -> None:
    """Raise ProblemError (trace-mismatch) unless `error` is a number within the tolerance."""
    if not error <= tolerance:
        raise ProblemError(
            ProblemType.TRACE_MISMATCH,
            f"Layer {layer}: the {what} is {error:.3g}, above the tolerance {tolerance:.3g}, so "
            "the trace is not what the model computed and nothing drawn from it would hold. "
            "Leave this layer out, or have the operator raise "
            "MAMBASCOPE_RECONSTRUCTION_TOLERANCE if the difference is rounding.",
        )


def require_finite(what: str, layer: int, tensors: dict[str, Tensor]) -> None:
    """Raise ProblemError (not-finite), naming the first tensor that holds infinity or NaN."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ProblemError(
                ProblemType.NOT_FINITE,
                f"Layer {layer}: the {name} of {what} holds infinities or NaN. Leave this layer or "
                "method out, or check the model's weights.",
            )
