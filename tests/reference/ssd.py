"""Slow float64 twin of SSD's hidden attention, materialised head by head."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def alpha(delta: Array, A: Array, B: Array, C: Array) -> Array:
    """(h, t, s) of delta (l, h), A (h,), B and C (l, g, n), as it is defined (2405.21060)."""
    length, heads = delta.shape
    per_group = heads // B.shape[1]
    found = np.zeros((heads, length, length))
    for h in range(heads):
        for t in range(length):
            decay = 1.0
            for s in range(t, -1, -1):
                scores = C[t, h // per_group] @ B[s, h // per_group]
                found[h, t, s] = delta[s, h] * scores * decay
                decay *= np.exp(A[h] * delta[s, h])
    return found


def matrix(alpha: Array, p: Array, q: Array) -> Array:
    """K (l, l): mean over channels of p[t, d] q[s, d] alpha[h(d), t, s]; p and q (l, d)."""
    wide = np.repeat(alpha, p.shape[1] // len(alpha), axis=0)
    found: Array = np.einsum("td,sd,dts->ts", p, q, wide) / p.shape[1]
    return found
