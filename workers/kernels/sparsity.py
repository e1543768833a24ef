"""How few numbers of a vector carry it, from sums that are cheap to take."""

import numpy as np

from workers.numbers import Floats


def hoyer(magnitudes: Floats, norms: Floats, count: int) -> Floats:
    """(v,): of v vectors of `count` numbers, 0 where all are alike, 1 for a single one; 0 of zeros.

    (sqrt(count) - |x|_1 / |x|_2) / (sqrt(count) - 1); magnitudes (v,) are |x|_1, norms (v,) |x|_2.
    Source: Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints" (2004).
    """
    if count < 2:
        return np.zeros(len(norms))
    root = np.sqrt(count)
    ratio = np.divide(magnitudes, norms, out=np.full(len(norms), root), where=norms > 0)
    # Rounding may leave what is all alike a little below 0.
    found: Floats = np.maximum((root - ratio) / (root - 1), 0.0)
    return found
