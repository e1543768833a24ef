"""Hidden attention of one text exactly as its formula reads, in float64, materialised.

alpha[d, t, s] = delta[s, d] * sum_n C[t, n] B[s, n] exp(A[d, n] (S[t, d] - S[s, d])) for s <= t,
S the cumulative sum of delta over tokens (Ali, Zimerman and Wolf, arXiv 2403.01590).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def alpha(delta: Array, A: Array, B: Array, C: Array) -> Array:
    """alpha (d, t, s), one entry at a time in s and t."""
    length, d = delta.shape
    out = np.zeros((d, length, length))
    for t in range(length):
        for s in range(t + 1):
            # Summed from the key on, so that a long text costs no cancellation.
            gap = delta[s + 1 : t + 1].sum(0)
            out[:, t, s] = delta[s] * np.einsum("n,n,dn->d", C[t], B[s], np.exp(A * gap[:, None]))
    return out


def _weights(delta: Array, p: Array | None, q: Array | None) -> tuple[Array, Array]:
    ones = np.ones_like(delta)
    return (ones if p is None else p), (ones if q is None else q)


def attention_matrix(
    delta: Array, A: Array, B: Array, C: Array, p: Array | None = None, q: Array | None = None
) -> Array:
    """K (t, s), the mean over channels of p_t q_s alpha."""
    p, q = _weights(delta, p, q)
    return np.einsum("td,sd,dts->ts", p, q, alpha(delta, A, B, C)) / delta.shape[1]


def attention_row(delta: Array, A: Array, B: Array, C: Array, query: int) -> Array:
    """alpha (s, d) of one query position."""
    return alpha(delta, A, B, C)[:, query].T


def weighted_row(
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    r: Array,
    p: Array | None = None,
    q: Array | None = None,
) -> Array:
    """r^T K (s,)."""
    return r @ attention_matrix(delta, A, B, C, p, q)


def attention_moments(
    delta: Array, A: Array, B: Array, C: Array, p: Array | None = None, q: Array | None = None
) -> tuple[Array, Array]:
    """Mean and population standard deviation (d,) of p_t q_s alpha over the pairs s <= t."""
    p, q = _weights(delta, p, q)
    weighted = np.einsum("td,sd,dts->tsd", p, q, alpha(delta, A, B, C))
    pairs = weighted[np.tril_indices(delta.shape[0])]
    return pairs.mean(0), pairs.std(0)


def apply_attention(delta: Array, A: Array, B: Array, C: Array, x: Array) -> Array:
    """y' (t, d) = sum_s alpha x_s."""
    return np.einsum("dts,sd->td", alpha(delta, A, B, C), x)
