"""How few of a block's neurons carry it, and which of them stand out.

Axes: d neuron.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.kernels import sparsity
from workers.numbers import Floats


@dataclass(frozen=True)
class Sparseness:
    """How few neurons carry a block's activation; see `sparseness`."""

    gini: float
    entropy: float
    entropy_normalised: float
    hoyer: float


def sparseness(magnitude: Floats) -> Sparseness:
    """Measures of magnitudes (d,), each from 0 on; of nothing but zeros all are 0.

    gini: sum_i (2 i - d - 1) m_i / (d sum m), of the magnitudes in ascending order, i from 1.
    entropy: -sum s log s of the shares s = m / sum m, in nats. hoyer: (sqrt(d) - |m|_1 / |m|_2) /
    (sqrt(d) - 1). Sources: Hurley and Rickard, "Comparing Measures of Sparsity" (0811.4706); Hoyer,
    "Non-negative Matrix Factorization with Sparseness Constraints" (2004).
    """
    total, count = float(magnitude.sum()), len(magnitude)
    if not total:
        return Sparseness(0.0, 0.0, 0.0, 0.0)
    shares = magnitude / total
    order = np.arange(1, count + 1)
    gini = float(((2 * order - count - 1) * np.sort(shares)).sum() / count)
    some = shares[shares > 0]
    entropy = max(0.0, float(-(some * np.log(some)).sum()))
    return Sparseness(
        gini=max(0.0, gini),
        entropy=entropy,
        entropy_normalised=entropy / float(np.log(count)) if count > 1 else 0.0,
        hoyer=hoyer(magnitude),
    )


def hoyer(values: Sequence[float] | Floats) -> float:
    """How sparse some numbers are, by Hoyer's measure; 0 of nothing."""
    size = np.abs(np.asarray(values, dtype=np.float64))
    largest = size.max(initial=0.0)
    # In units of the largest: the square of a small number may be 0.
    size = size / (largest or 1.0)
    sums, norms = size.sum(keepdims=True), np.sqrt((size**2).sum(keepdims=True))
    return max(0.0, float(sparsity.hoyer(sums, norms, len(size))[0]))


def ranked(values: Floats, most: int) -> list[int]:
    """Indices of the largest magnitudes, largest first, without zeros and what is no number."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    order = np.argsort(-size, kind="stable")[:most]
    return [int(index) for index in order if size[index] > 0]
