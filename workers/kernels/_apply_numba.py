"""The hidden attention applied to values, in attention form.

Inside a leaf of four tokens every pair's exponential is evaluated by itself; what came before the
leaf is read through the decay since its start. That is not the token-by-token recurrence, which it
serves to check.

A leaf's rows lie side by side in one flat array, at distances known to the compiler: LLVM
vectorises a loop only where it can show cheaply that what is written overlaps nothing that is read.
"""

from typing import Any

import numpy as np
from numba import njit

from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._reads_numba import load_states, store_states, wide_decays
from workers.kernels._simd import FAST_MATH, exp32

LEAF = 4
# Channels worked on together: with all that is kept of them they fit the first-level cache.
WIDTH = 64
_2, _3 = 2 * WIDTH, 3 * WIDTH
# Where a leaf's gaps lie: from its start to each token, then between its tokens, (query, key).
_10, _20, _21, _30, _31, _32 = range(LEAF * WIDTH, 10 * WIDTH, WIDTH)
_GAPS = 10 * WIDTH

_ZERO = np.float32(0.0)
_kernel = njit(nogil=True, cache=True, fastmath=FAST_MATH)


@_kernel
def apply(
    first: int,
    last: int,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    x: Any,
    state: Any,
    out: Any,
    sums: Any,
) -> None:
    """out[t, d] = sum_s alpha[d, t, s] x[s, d]; sums[block, t]: the same of ones, over channels.

    For blocks `first` to `last` of `WIDTH` channels. delta, x (l, d); A (n, d); B, C (l, n).
    state (2, d, n), float64: what the tokens before the piece leave of x and of ones; left as what
    those of the piece leave too.
    """
    length, d = delta.shape
    states = A.shape[0]
    carried, rates = np.zeros((2, states, WIDTH), np.float64), np.zeros((states, WIDTH), np.float32)
    gaps, decays = np.empty(_GAPS, np.float32), np.empty(_GAPS, np.float32)
    border = np.empty(WIDTH, np.float64)
    keys = np.zeros((2, LEAF * WIDTH), np.float32)
    read = np.empty((2, LEAF * WIDTH), np.float32)
    b, c = np.zeros((states, LEAF), np.float32), np.zeros((states, LEAF), np.float32)
    for block in range(first, last):
        mode = begin_flushing()
        d0 = block * WIDTH
        width = min(d, d0 + WIDTH) - d0
        rates[:, :width] = A[:, d0 : d0 + width]
        load_states(carried, state[:, d0 : d0 + width])
        for start in range(0, length, LEAF):
            size = min(LEAF, length - start)
            _load(keys, b, c, (start, size, d0, width), delta, x, B, C)
            _gaps(gaps, keys[1])
            read[:] = _ZERO
            for n in range(states):
                _decays(decays, rates[n], gaps)
                wide_decays(border, rates[n], gaps[_3:_10])
                for v in range(2):
                    _leaf(carried[v, n], border, decays, keys[v], b[n], c[n], read[v])
            for i in range(size):
                _copy(out[start + i, d0 : d0 + width], read[0, i * WIDTH :])
                sums[block, start + i] = _sum(read[1, i * WIDTH : i * WIDTH + width])
        store_states(state[:, d0 : d0 + width], carried)
        end_flushing(mode)


@_kernel
def _load(keys: Any, b: Any, c: Any, place: Any, delta: Any, x: Any, B: Any, C: Any) -> None:
    """One leaf's x delta and delta, and B and C with states first; zeros past the piece's end."""
    start, size, d0, width = place
    if size < LEAF:
        keys[:] = _ZERO
        b[:] = _ZERO
        c[:] = _ZERO
    for i in range(size):
        step, value = delta[start + i, d0 : d0 + width], x[start + i, d0 : d0 + width]
        of_x, of_ones = keys[0, i * WIDTH :], keys[1, i * WIDTH :]
        for k in range(width):
            of_x[k] = step[k] * value[k]
        for k in range(width):
            of_ones[k] = step[k]
        for n in range(b.shape[0]):
            b[n, i] = B[start + i, n]
            c[n, i] = C[start + i, n]


@_kernel
def _gaps(gaps: Any, step: Any) -> None:
    """Delta summed from the leaf's start up to each token, and from key to query."""
    for k in range(WIDTH):
        x0, x1, x2, x3 = step[k], step[k + WIDTH], step[k + _2], step[k + _3]
        gaps[k] = x0
        gaps[k + WIDTH] = x0 + x1
        gaps[k + _2] = x0 + (x1 + x2)
        gaps[k + _3] = (x0 + x1) + (x2 + x3)
        gaps[k + _10] = x1
        gaps[k + _20] = x1 + x2
        gaps[k + _21] = x2
        gaps[k + _30] = x1 + (x2 + x3)
        gaps[k + _31] = x2 + x3
        gaps[k + _32] = x3


@_kernel
def _decays(out: Any, a: Any, gaps: Any) -> None:
    for start in range(0, _GAPS, WIDTH):
        for k in range(WIDTH):
            out[start + k] = exp32(a[k] * gaps[start + k])


@_kernel
def _leaf(carried: Any, border: Any, decays: Any, keys: Any, b: Any, c: Any, read: Any) -> None:
    """Add one state's part to a leaf's reads, and carry the state over the leaf."""
    b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    for k in range(WIDTH):
        before = np.float32(carried[k])
        k0, k1, k2, k3 = b0 * keys[k], b1 * keys[k + WIDTH], b2 * keys[k + _2], b3 * keys[k + _3]
        read[k] += c0 * (decays[k] * before + k0)
        read[k + WIDTH] += c1 * (decays[k + WIDTH] * before + (decays[k + _10] * k0 + k1))
        inside = decays[k + _20] * k0 + (decays[k + _21] * k1 + k2)
        read[k + _2] += c2 * (decays[k + _2] * before + inside)
        inside = (decays[k + _30] * k0 + decays[k + _31] * k1) + (decays[k + _32] * k2 + k3)
        read[k + _3] += c3 * (decays[k + _3] * before + inside)
        carried[k] = border[k] * carried[k] + np.float64(inside)


@_kernel
def _copy(out: Any, values: Any) -> None:
    for k in range(out.size):
        out[k] = values[k]


@_kernel
def _sum(values: Any) -> Any:
    total = 0.0
    for k in range(values.size):
        total += np.float64(values[k])
    return total
