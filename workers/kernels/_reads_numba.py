"""Reads of the hidden attention that need no matrix: one row, weighted rows, moments.

Shapes: delta, p, q (l, d), of which p and q may be empty and then stand for ones; A (n, d); B, C
(l, n). Each runs over a piece of the tokens once, for blocks `first` to `last` of channels, which
threads share, and takes its state, float64, from where the piece before it left it. A decay close
to one rounds in float32 by up to 3e-8, always the same way when delta is constant, and thousands
of tokens would add that up: `decay64` does not.
"""

from typing import Any

import numpy as np
from numba import njit

from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._simd import EXP_FLOOR, FAST_MATH, decay64, exp32

# Channels worked on together. `row` has little state and long loops; the other widths keep the
# states of a block in the first-level cache, `moments` those of every pair of states.
ROW_WIDTH = 256
WEIGHTED_WIDTH = 128
MOMENTS_WIDTH = 256
# Tokens between two looks whether anything is left to read.
_CHECK = 32

_ONE = np.float32(1.0)

_kernel = njit(nogil=True, cache=True, fastmath=FAST_MATH)


@_kernel
def row(first: int, last: int, delta: Any, A: Any, B: Any, c: Any, gap: Any, out: Any) -> None:
    """out[s, d] = alpha[d, t, s] for a query t at or after the piece; c = C[t].

    gap (d,): delta summed over the tokens after the piece up to t; left summed over the piece too.
    `out` comes in as zeros; once no decay is left, what is further back stays so, and so does gap.
    """
    length, d = delta.shape
    for block in range(first, last):
        mode = begin_flushing()
        d0 = block * ROW_WIDTH
        d1 = min(d, d0 + ROW_WIDTH)
        since = gap[d0:d1]
        rounded = np.empty(d1 - d0, np.float32)
        for s in range(length - 1, -1, -1):
            target, step = out[s, d0:d1], delta[s, d0:d1]
            for k in range(rounded.size):
                rounded[k] = np.float32(since[k])
            if s % _CHECK == 0 and _forgotten(A[:, d0:d1], rounded):
                break
            for n in range(A.shape[0]):
                _add_decayed(target, A[n, d0:d1], rounded, B[s, n] * c[n])
            for k in range(target.size):
                target[k] *= step[k]
            for k in range(since.size):
                since[k] += step[k]
        end_flushing(mode)


@njit(nogil=True, cache=True)
def _forgotten(A: Any, gap: Any) -> bool:
    """Whether `exp32` is zero at every A gap."""
    for n in range(A.shape[0]):
        for k in range(gap.size):
            if A[n, k] * gap[k] > EXP_FLOOR:
                return False
    return True


@_kernel
def _add_decayed(target: Any, a: Any, gap: Any, weight: Any) -> None:
    for k in range(target.size):
        target[k] += weight * exp32(a[k] * gap[k])


@_kernel
def weighted(
    first: int,
    last: int,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    r: Any,
    p: Any,
    q: Any,
    state: Any,
    out: Any,
) -> None:
    """out[block, k, s] = sum over the block's channels of q[s, d] delta[s, d] B_s . G_s, where

    G_s = exp(A delta_{s+1}) G_{s+1} + r[k, s] p_s C_s; r, with a row per k, is (k, l). state
    (k, d, n): exp(A delta_{s+1}) G_{s+1} with s the piece's last token; left as the same for the
    token before the piece.
    """
    length, d = delta.shape
    rows, states = r.shape[0], A.shape[0]
    decay = np.empty((states, WEIGHTED_WIDTH), np.float64)
    later = np.empty((rows, states, WEIGHTED_WIDTH), np.float64)
    query, key = np.empty(WEIGHTED_WIDTH, np.float32), np.empty(WEIGHTED_WIDTH, np.float32)
    read = np.empty(WEIGHTED_WIDTH, np.float64)
    for block in range(first, last):
        mode = begin_flushing()
        d0 = block * WEIGHTED_WIDTH
        d1 = min(d, d0 + WEIGHTED_WIDTH)
        width = d1 - d0
        load_states(later, state[:, d0:d1])
        for s in range(length - 1, -1, -1):
            step = delta[s, d0:d1]
            _weights(query[:width], p, s, d0)
            _scaled_weights(key[:width], q, s, d0, step)
            for n in range(states):
                wide_decays(decay[n, :width], A[n, d0:d1], step)
            for k in range(rows):
                read[:] = 0.0
                for n in range(states):
                    _add_read_decay(
                        later[k, n, :width],
                        decay[n, :width],
                        query[:width],
                        np.float64(r[k, s]) * C[s, n],
                        read[:width],
                        np.float64(B[s, n]),
                    )
                out[block, k, s] = _dot(read[:width], key[:width])
        store_states(state[:, d0:d1], later)
        end_flushing(mode)


@_kernel
def load_states(block: Any, state: Any) -> None:
    """block[k, n, c] = state[k, c, n]."""
    for k in range(state.shape[0]):
        for c in range(state.shape[1]):
            for n in range(state.shape[2]):
                block[k, n, c] = state[k, c, n]


@_kernel
def store_states(state: Any, block: Any) -> None:
    """The other way."""
    for k in range(state.shape[0]):
        for c in range(state.shape[1]):
            for n in range(state.shape[2]):
                state[k, c, n] = block[k, n, c]


@_kernel
def _weights(out: Any, values: Any, t: int, d0: int) -> None:
    """One token's p, or ones."""
    if values.shape[0] == 0:
        out[:] = _ONE
        return
    found = values[t, d0 : d0 + out.size]
    for k in range(out.size):
        out[k] = found[k]


@_kernel
def _scaled_weights(out: Any, values: Any, t: int, d0: int, delta: Any) -> None:
    """One token's q delta."""
    _weights(out, values, t, d0)
    for k in range(out.size):
        out[k] *= delta[k]


@_kernel
def wide_decays(out: Any, a: Any, delta: Any) -> None:
    """out = exp(a delta), float64."""
    for k in range(out.size):
        out[k] = decay64(a[k] * delta[k])


@_kernel
def _add_read_decay(
    state: Any, decay: Any, values: Any, weight: Any, total: Any, reading: Any
) -> None:
    """state += weight values; total += reading state; state *= decay."""
    for k in range(state.size):
        fresh = state[k] + weight * values[k]
        total[k] += reading * fresh
        state[k] = decay[k] * fresh


@_kernel
def _dot(x: Any, y: Any) -> Any:
    total = 0.0
    for k in range(x.size):
        total += x[k] * np.float64(y[k])
    return total


@_kernel
def moments(
    first: int,
    last: int,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    p: Any,
    q: Any,
    state: Any,
    products: Any,
    totals: Any,
) -> None:
    """Add to totals (2, d) the sums over s <= t of p_t q_s alpha and of its square.

    The square's state is the product of two states, symmetric in them, so only m <= n is kept and
    the off-diagonal part is read twice. state (d, n) and products (d, n, n), of which the lower
    triangle is used, are those of the last token before the piece; left as those of its last.
    """
    length, d = delta.shape
    states, W = A.shape[0], MOMENTS_WIDTH
    decay, sums = np.empty((states, W), np.float64), np.zeros((states, W), np.float64)
    pairs = np.zeros((states * (states + 1) // 2, W), np.float64)
    query, key = np.zeros(W, np.float32), np.zeros(W, np.float32)
    read, total = np.empty((2, W), np.float64), np.empty((2, W), np.float64)
    queries, keys = np.empty(W, np.float64), np.empty(W, np.float64)
    rates, step = np.zeros((states, W), np.float32), np.zeros(W, np.float32)
    for block in range(first, last):
        mode = begin_flushing()
        d0 = block * W
        d1 = min(d, d0 + W)
        width = d1 - d0
        rates[:, :width] = A[:, d0:d1]
        _load_pairs(sums, pairs, state[d0:d1], products[d0:d1])
        total[:] = 0.0
        for t in range(length):
            step[:width] = delta[t, d0:d1]
            _weights(query[:width], p, t, d0)
            _scaled_weights(key[:width], q, t, d0, step[:width])
            _square(queries, query)
            _square(keys, key)
            read[:] = 0.0
            pair = 0
            for n in range(states):
                b, c = np.float64(B[t, n]), np.float64(C[t, n])
                wide_decays(decay[n], rates[n], step)
                _advance(sums[n], decay[n], key, b, read[0], c)
                for m in range(n):
                    _advance_pair(
                        pairs[pair],
                        decay[n],
                        decay[m],
                        keys,
                        b * B[t, m],
                        read[1],
                        2.0 * c * C[t, m],
                    )
                    pair += 1
                _advance_pair(pairs[pair], decay[n], decay[n], keys, b * b, read[1], c * c)
                pair += 1
            _add_product(total[0], read[0], query)
            _add_product(total[1], read[1], queries)
        totals[:, d0:d1] += total[:, :width]
        _store_pairs(state[d0:d1], products[d0:d1], sums, pairs)
        end_flushing(mode)


@_kernel
def _load_pairs(sums: Any, pairs: Any, state: Any, products: Any) -> None:
    for c in range(state.shape[0]):
        pair = 0
        for n in range(state.shape[1]):
            sums[n, c] = state[c, n]
            for m in range(n + 1):
                pairs[pair, c] = products[c, n, m]
                pair += 1


@_kernel
def _store_pairs(state: Any, products: Any, sums: Any, pairs: Any) -> None:
    for c in range(state.shape[0]):
        pair = 0
        for n in range(state.shape[1]):
            state[c, n] = sums[n, c]
            for m in range(n + 1):
                products[c, n, m] = pairs[pair, c]
                pair += 1


@_kernel
def _square(out: Any, values: Any) -> None:
    for k in range(out.size):
        out[k] = np.float64(values[k]) * np.float64(values[k])


@_kernel
def _advance(state: Any, decay: Any, values: Any, weight: Any, total: Any, reading: Any) -> None:
    """state = decay state + weight values; total += reading state."""
    for k in range(MOMENTS_WIDTH):
        fresh = decay[k] * state[k] + weight * values[k]
        state[k] = fresh
        total[k] += reading * fresh


@_kernel
def _advance_pair(
    state: Any, x: Any, y: Any, values: Any, weight: Any, total: Any, reading: Any
) -> None:
    """state = x y state + weight values; total += reading state."""
    for k in range(MOMENTS_WIDTH):
        fresh = x[k] * y[k] * state[k] + weight * values[k]
        state[k] = fresh
        total[k] += reading * fresh


@_kernel
def _add_product(total: Any, x: Any, y: Any) -> None:
    for k in range(total.size):
        total[k] += x[k] * np.float64(y[k])
