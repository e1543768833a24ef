"""The smallest pieces of the hidden-attention product: leaves of four tokens, tiles of 4 x 4 pairs.

Loops write one array each and index from zero: LLVM vectorises a loop only where it can show
cheaply that what is written overlaps nothing that is read and that no index is negative.
"""

from typing import Any

import numpy as np
from numba import njit

from workers.kernels._simd import FAST_MATH, exp32

LEAF = 4

_ZERO = np.float32(0.0)


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def build_leaf(
    inputs: Any,
    window: Any,
    state: int,
    leaf: int,
    scratch: Any,
    left: Any,
    right: Any,
    exponents: Any,
    out: Any,
) -> None:
    """Factors, total exponent and diagonal block of one leaf, for one state of the chunk.

    inputs: delta (l, d), A (n, d), B, C (l, n), p, w (l, d), with w = q delta. window: the chunk's
    first channel, channels, first state and states; its columns are (state, channel). Written: left
    and right (l, columns), exponents (leaves, columns); added to: out (l, l). scratch: the leaf's
    decays, queries and keys, (12, channels).
    """
    delta, A, B, C, p, w = inputs
    d0, width, first, _ = window
    n = first + state
    t = leaf * LEAF
    for i in range(LEAF):
        _step(
            A[n, d0 : d0 + width],
            delta[t + i, d0 : d0 + width],
            (C[t + i, n], p[t + i, d0 : d0 + width]),
            (B[t + i, n], w[t + i, d0 : d0 + width]),
            scratch[i],
            scratch[LEAF + i],
            scratch[2 * LEAF + i],
        )
    k = slice(state * width, (state + 1) * width)
    _total(
        A[n, d0 : d0 + width],
        delta[t, d0 : d0 + width],
        delta[t + 1, d0 : d0 + width],
        delta[t + 2, d0 : d0 + width],
        delta[t + 3, d0 : d0 + width],
        exponents[leaf, k],
    )
    _diagonal(scratch, width, t, out)
    _left_rows(scratch, left[t, k], left[t + 1, k], left[t + 2, k], left[t + 3, k])
    _right_rows(scratch, right[t, k], right[t + 1, k], right[t + 2, k], right[t + 3, k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _step(a: Any, delta: Any, query: Any, key: Any, decay: Any, left: Any, right: Any) -> None:
    """One token's decay, query and key, before any decay is applied."""
    c, p = query
    b, w = key
    for k in range(decay.size):
        decay[k] = exp32(a[k] * delta[k])
    for k in range(left.size):
        left[k] = c * p[k]
    for k in range(right.size):
        right[k] = b * w[k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _total(a: Any, x0: Any, x1: Any, x2: Any, x3: Any, exponent: Any) -> None:
    for k in range(exponent.size):
        exponent[k] = a[k] * ((x0[k] + x1[k]) + (x2[k] + x3[k]))


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _left_rows(scratch: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> None:
    """Queries, decayed from the leaf's start."""
    for k in range(x0.size):
        x0[k] = scratch[4, k] * scratch[0, k]
    for k in range(x1.size):
        x1[k] = scratch[5, k] * (scratch[0, k] * scratch[1, k])
    for k in range(x2.size):
        x2[k] = scratch[6, k] * (scratch[0, k] * scratch[1, k] * scratch[2, k])
    for k in range(x3.size):
        x3[k] = scratch[7, k] * (scratch[0, k] * scratch[1, k] * (scratch[2, k] * scratch[3, k]))


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _right_rows(scratch: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> None:
    """Keys, decayed to the leaf's end."""
    for k in range(x0.size):
        x0[k] = scratch[8, k] * (scratch[1, k] * scratch[2, k] * scratch[3, k])
    for k in range(x1.size):
        x1[k] = scratch[9, k] * (scratch[2, k] * scratch[3, k])
    for k in range(x2.size):
        x2[k] = scratch[10, k] * scratch[3, k]
    for k in range(x3.size):
        x3[k] = scratch[11, k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _diagonal(scratch: Any, width: int, t: int, out: Any) -> None:
    """The lower triangle of a leaf's own 4 x 4 block, by running products of the decays."""
    x00 = x10 = x11 = x20 = x21 = x22 = x30 = x31 = x32 = x33 = _ZERO
    for k in range(width):
        a1, a2, a3 = scratch[1, k], scratch[2, k], scratch[3, k]
        c1, c2, c3 = scratch[5, k], scratch[6, k], scratch[7, k]
        r0, r1, r2 = scratch[8, k], scratch[9, k], scratch[10, k]
        x00 += scratch[4, k] * r0
        x11 += c1 * r1
        x22 += c2 * r2
        x33 += c3 * scratch[11, k]
        r0 *= a1
        x10 += c1 * r0
        r0 *= a2
        r1 *= a2
        x20 += c2 * r0
        x21 += c2 * r1
        x30 += c3 * (r0 * a3)
        x31 += c3 * (r1 * a3)
        x32 += c3 * (r2 * a3)
    out[t, t] += x00
    out[t + 1, t] += x10
    out[t + 1, t + 1] += x11
    out[t + 2, t] += x20
    out[t + 2, t + 1] += x21
    out[t + 2, t + 2] += x22
    out[t + 3, t] += x30
    out[t + 3, t + 1] += x31
    out[t + 3, t + 2] += x32
    out[t + 3, t + 3] += x33


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def multiply_tile(left: Any, right: Any, out: Any, i: int, j: int, columns: int) -> None:
    """Four queries times four keys: sixteen sums held in vector registers along the joint index."""
    x00 = x01 = x02 = x03 = x10 = x11 = x12 = x13 = _ZERO
    x20 = x21 = x22 = x23 = x30 = x31 = x32 = x33 = _ZERO
    for k in range(columns):
        l0, l1, l2, l3 = left[i, k], left[i + 1, k], left[i + 2, k], left[i + 3, k]
        r0, r1, r2, r3 = right[j, k], right[j + 1, k], right[j + 2, k], right[j + 3, k]
        x00 += l0 * r0
        x01 += l0 * r1
        x02 += l0 * r2
        x03 += l0 * r3
        x10 += l1 * r0
        x11 += l1 * r1
        x12 += l1 * r2
        x13 += l1 * r3
        x20 += l2 * r0
        x21 += l2 * r1
        x22 += l2 * r2
        x23 += l2 * r3
        x30 += l3 * r0
        x31 += l3 * r1
        x32 += l3 * r2
        x33 += l3 * r3
    _add_row(out, i, j, x00, x01, x02, x03)
    _add_row(out, i + 1, j, x10, x11, x12, x13)
    _add_row(out, i + 2, j, x20, x21, x22, x23)
    _add_row(out, i + 3, j, x30, x31, x32, x33)


@njit(inline="always")
def _add_row(out: Any, t: int, s: int, x0: Any, x1: Any, x2: Any, x3: Any) -> None:
    out[t, s] += x0
    out[t, s + 1] += x1
    out[t, s + 2] += x2
    out[t, s + 3] += x3
