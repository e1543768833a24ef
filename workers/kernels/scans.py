"""Reads of the hidden attention that need no matrix: one row, weighted rows, moments, products.

Shapes: delta, p, w (l, d); A (n, d); B, C (l, n); r (l,). Each runs over the tokens once, with a
state per (d, n), for blocks `first` to `last` of `WIDTH` channels; threads share the blocks. The
states are float64: a decay close to one rounds in float32 by up to 3e-8, always the same way when
delta is constant, and thousands of tokens would add that up.
"""

from typing import Any

import numpy as np
from numba import njit

from workers.kernels._simd import (
    EXP_FLOOR,
    FAST_MATH,
    exp32,
    exp64,
    flush_denormals,
    restore_denormals,
)

# Channels worked on together: many, since each pass over them is a call; few enough that their
# product states fit the second-level cache and that threads have blocks to share.
WIDTH = 256
# Tokens whose mutual exponentials `apply` evaluates directly.
BLOCK = 8
# Tokens between two looks whether anything is left to read.
_CHECK = 32


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def row(first: int, last: int, delta: Any, A: Any, B: Any, c: Any, out: Any) -> None:
    """out[s, d] = alpha[d, t, s] with t the last token of delta; A is (n, d), c = C[t].

    `out` comes in as zeros; once no decay is left, what is further back stays so.
    """
    length, d = delta.shape
    for block in range(first, last):
        mode = flush_denormals()
        d0 = block * WIDTH
        d1 = min(d, d0 + WIDTH)
        gap = np.zeros(d1 - d0, np.float64)
        rounded = np.zeros(d1 - d0, np.float32)
        for s in range(length - 1, -1, -1):
            target = out[s, d0:d1]
            if s % _CHECK == 0 and _forgotten(A[:, d0:d1], rounded):
                break
            for n in range(A.shape[0]):
                _add_decayed(target, A[n, d0:d1], rounded, B[s, n] * c[n])
            step = delta[s, d0:d1]
            for k in range(gap.size):
                target[k] *= step[k]
            for k in range(gap.size):
                gap[k] += step[k]
            for k in range(gap.size):
                rounded[k] = np.float32(gap[k])
        restore_denormals(mode)


@njit(nogil=True, cache=True)
def _forgotten(A: Any, gap: Any) -> bool:
    """Whether `exp32` is zero at every A gap."""
    for n in range(A.shape[0]):
        for k in range(gap.size):
            if A[n, k] * gap[k] > EXP_FLOOR:
                return False
    return True


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _add_decayed(target: Any, a: Any, gap: Any, weight: Any) -> None:
    for k in range(target.size):
        target[k] += weight * exp32(a[k] * gap[k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def weighted(
    first: int, last: int, delta: Any, A: Any, B: Any, C: Any, r: Any, p: Any, w: Any, out: Any
) -> None:
    """out[block, s] = sum over the block's channels of w[s, d] B_s . G_s, where

    G_s = exp(A delta_{s+1}) G_{s+1} + r_s p_s C_s and w = q delta; A is (n, d).
    """
    length, d = delta.shape
    for block in range(first, last):
        mode = flush_denormals()
        d0 = block * WIDTH
        d1 = min(d, d0 + WIDTH)
        state = np.zeros((A.shape[0], d1 - d0), np.float64)
        read = np.empty(d1 - d0, np.float64)
        for s in range(length - 1, -1, -1):
            read[:] = 0.0
            later = min(s + 1, length - 1)
            for n in range(A.shape[0]):
                _decay_and_add(
                    state[n],
                    A[n, d0:d1],
                    delta[later, d0:d1],
                    p[s, d0:d1],
                    np.float64(r[s]) * C[s, n],
                )
                _add_scaled(read, state[n], np.float64(B[s, n]))
            out[block, s] = _dot(read, w[s, d0:d1])
        restore_denormals(mode)


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _decay_and_add(state: Any, a: Any, delta: Any, values: Any, weight: Any) -> None:
    """state = exp(a delta) state + weight values."""
    for k in range(state.size):
        decay = exp64(np.float64(a[k]) * np.float64(delta[k]))
        state[k] = decay * state[k] + weight * values[k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _add_scaled(total: Any, values: Any, weight: Any) -> None:
    for k in range(total.size):
        total[k] += weight * values[k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _dot(x: Any, y: Any) -> Any:
    total = 0.0
    for k in range(x.size):
        total += x[k] * np.float64(y[k])
    return total


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def moments(
    first: int, last: int, delta: Any, A: Any, B: Any, C: Any, p: Any, w: Any, out: Any
) -> None:
    """out[0] and out[1] (d,): sums over s <= t of p_t q_s alpha and of its square; w = q delta.

    The square's state is the product of two states, symmetric in them, so only m <= n is kept and
    the off-diagonal part is read twice.
    """
    length, d = delta.shape
    states = A.shape[0]
    for block in range(first, last):
        mode = flush_denormals()
        d0 = block * WIDTH
        d1 = min(d, d0 + WIDTH)
        decay = np.empty((states, d1 - d0), np.float64)
        sums = np.zeros((states, d1 - d0), np.float64)
        products = np.zeros((states * (states + 1) // 2, d1 - d0), np.float64)
        read = np.empty((2, d1 - d0), np.float64)
        squares = np.empty(d1 - d0, np.float64)
        for t in range(length):
            read[:] = 0.0
            _square(squares, w[t, d0:d1])
            pair = 0
            for n in range(states):
                _decays(decay[n], A[n, d0:d1], delta[t, d0:d1])
                _advance(sums[n], decay[n], w[t, d0:d1], np.float64(B[t, n]))
                _add_scaled(read[0], sums[n], np.float64(C[t, n]))
                for m in range(n + 1):
                    b = np.float64(B[t, n]) * B[t, m]
                    c = np.float64(C[t, n]) * C[t, m] * (1.0 if m == n else 2.0)
                    _advance_pair(products[pair], decay[n], decay[m], squares, b, read[1], c)
                    pair += 1
            _add_product(out[0, d0:d1], read[0], p[t, d0:d1])
            _square(squares, p[t, d0:d1])
            _add_product(out[1, d0:d1], read[1], squares)
        restore_denormals(mode)


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _square(out: Any, values: Any) -> None:
    for k in range(out.size):
        out[k] = np.float64(values[k]) * np.float64(values[k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _decays(out: Any, a: Any, delta: Any) -> None:
    for k in range(out.size):
        out[k] = exp64(np.float64(a[k]) * np.float64(delta[k]))


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _advance(state: Any, decay: Any, values: Any, weight: Any) -> None:
    for k in range(state.size):
        state[k] = decay[k] * state[k] + weight * values[k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _advance_pair(
    state: Any, x: Any, y: Any, values: Any, weight: Any, total: Any, read: Any
) -> None:
    """state = x y state + weight values; total += read state."""
    for k in range(state.size):
        fresh = x[k] * y[k] * state[k] + weight * values[k]
        state[k] = fresh
        total[k] += read * fresh


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _add_product(total: Any, x: Any, y: Any) -> None:
    for k in range(total.size):
        total[k] += x[k] * np.float64(y[k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def apply(first: int, last: int, delta: Any, A: Any, B: Any, C: Any, w: Any, out: Any) -> None:
    """out[t, d] = sum_s alpha[d, t, s] x[s, d], w = x delta; A is (n, d).

    Inside a block of tokens every pair's exponential is evaluated on its own; what came before the
    block is read through the decay since its start.
    """
    length, d = delta.shape
    for block in range(first, last):
        mode = flush_denormals()
        d0 = block * WIDTH
        d1 = min(d, d0 + WIDTH)
        carried = np.zeros((A.shape[0], d1 - d0), np.float64)
        gap = np.empty(d1 - d0, np.float64)
        read = np.empty(d1 - d0, np.float64)
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            for t in range(start, end):
                read[:] = 0.0
                gap[:] = 0.0
                for s in range(t, start - 1, -1):
                    for n in range(A.shape[0]):
                        weight = np.float64(C[t, n]) * B[s, n]
                        _add_pair(read, A[n, d0:d1], gap, w[s, d0:d1], weight)
                    _add_scaled(gap, delta[s, d0:d1], 1.0)
                for n in range(A.shape[0]):
                    _add_pair(read, A[n, d0:d1], gap, carried[n], np.float64(C[t, n]))
                _copy(out[t, d0:d1], read)
            _carry(carried, delta[start:end, d0:d1], A[:, d0:d1], B[start:end], w[start:end, d0:d1])
        restore_denormals(mode)


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _carry(carried: Any, delta: Any, A: Any, B: Any, w: Any) -> None:
    """The state after a block: what was carried and the block's keys, decayed to its end."""
    tokens, width = delta.shape
    gap = np.zeros(width, np.float64)
    fresh = np.zeros((A.shape[0], width), np.float64)
    for s in range(tokens - 1, -1, -1):
        for n in range(A.shape[0]):
            _add_pair(fresh[n], A[n], gap, w[s], np.float64(B[s, n]))
        _add_scaled(gap, delta[s], 1.0)
    for n in range(A.shape[0]):
        _add_pair(fresh[n], A[n], gap, carried[n], 1.0)
        _copy(carried[n], fresh[n])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _add_pair(total: Any, a: Any, gap: Any, values: Any, weight: Any) -> None:
    """total += weight exp(a gap) values."""
    for k in range(total.size):
        decay = exp64(np.float64(a[k]) * gap[k])
        total[k] += weight * decay * np.float64(values[k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _copy(out: Any, values: Any) -> None:
    for k in range(out.size):
        out[k] = values[k]
