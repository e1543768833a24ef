"""The hidden-attention matrix as one matrix product over the joint index (d, n).

The product is hierarchical. Rows of a left factor (queries) and a right factor (keys) start
relative to leaves of four tokens and are merged pair by pair: the keys of the left block meet the
queries of the right block at the position r between them,

    exp(A(S_t - S_s)) = exp(A(S_t - S_r)) * exp(A(S_r - S_s)),

then both are re-based to the merged block by one multiplication with a decay per (d, n). Every
exponent is <= 0, so nothing overflows and an underflow is a true zero. A chunk of the joint index
runs through all merges before the next one starts, so its factors stay in the cache, and each
thread sums its own chunks without waiting for the others.

A pair of leaves is left out for a chunk once every (d, n) in it has decayed by `exp(REACH)`
between them. That changes K[t, s] by at most exp(REACH) (1/d) sum |p_t C_t B_s q_s Delta_s|, six
orders of magnitude below float32 rounding, and makes the cost follow the model's memory.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from workers.kernels import _parallel
from workers.kernels._blocks import LEAF, build_leaf, multiply_tile
from workers.kernels._simd import (
    FAST_MATH,
    exp32,
    float_from_bits,
    flush_denormals,
    restore_denormals,
)

REACH = -30.0
# Columns of the joint index in a chunk: long enough to amortise the sums across vector lanes,
# short enough that both factors of a few thousand tokens fit the last-level cache.
_CHUNK = 512
_LANES = 16
# Leaves of queries (second-level cache) and of keys (first-level cache) that are multiplied
# together before moving on.
_QUERY_PANEL = 32
_KEY_PANEL = 4
# Merged blocks of fewer leaves are multiplied without looking for pairs out of reach.
_BOUNDED = 16
# Partial sums of the threads may take this many bytes together.
_PARTIAL_BYTES = 1 << 29

_ZERO = np.float32(0.0)


def contract(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, p: Tensor | None, q: Tensor | None
) -> Tensor:
    """K (l, l) from float32 CPU tensors; see `hidden_attention.attention_matrix`."""
    length, d = delta.shape
    n = A.shape[1]
    groups = -(-d // _CHUNK)
    width = -(-d // (groups * _LANES)) * _LANES
    per_chunk = min(n, max(1, _CHUNK // width))
    leaves = -(-length // LEAF)
    rows = leaves * LEAF
    chunks = groups * -(-n // per_chunk)
    # Some sixty products of the lower triangle take about as long as one update of a scan.
    work = length * length * d * n // 128
    affordable = max(1, _PARTIAL_BYTES // (4 * rows * rows))
    threads = min(_parallel.threads_for(chunks, work), affordable)

    arranged, order = _arranged((delta, p, q), A, (rows, groups * width))
    stride = per_chunk * width + _LANES
    # torch aligns to the cache line; vector loads that straddle two lines cost double.
    factors = torch.empty(threads, 2, rows, stride).numpy()
    exponents = torch.zeros(threads, 2, leaves + 1, stride).numpy()
    # numpy's zeros are pages that are not touched until used: the upper triangle costs nothing.
    partial = np.zeros((threads, rows, rows + _LANES), np.float32)
    _parallel.run(
        _contract,
        chunks,
        work,
        arranged,
        np.ascontiguousarray(A.numpy().T[:, order]),
        _extended(B.numpy(), rows),
        _extended(C.numpy(), rows),
        (width, per_chunk),
        own=(factors, exponents, partial),
        grain=1,
    )
    matrix = np.zeros((length, length), np.float32)
    _parallel.run(_collect, length, length * length, partial, np.float32(1.0 / d), matrix)
    return torch.from_numpy(matrix)


def _arranged(
    weights: tuple[Tensor, Tensor | None, Tensor | None], A: Tensor, shape: tuple[int, int]
) -> tuple[Any, Any]:
    """(delta, p, q delta) padded to `shape`, channels in the returned order: slowest first."""
    delta = weights[0].numpy()
    slowest_first = np.argsort(-A.numpy().mean(1) * delta.mean(0))
    spare = np.repeat(slowest_first[-1:], shape[1] - slowest_first.size)
    order = np.concatenate([slowest_first, spare])
    absent = np.empty((0, 0), np.float32)
    p, q = (absent if values is None else values.numpy() for values in weights[1:])
    arranged = torch.empty(3, *shape).numpy()
    _parallel.run(_arrange, shape[0], 3 * delta.size, delta, p, q, order, arranged)
    return arranged, order


def _extended(values: Any, rows: int) -> Any:
    """`values` with rows of zeros appended."""
    out = np.zeros((rows, values.shape[1]), np.float32)
    out[: len(values)] = values
    return out


@njit(nogil=True, cache=True)
def _arrange(first: int, last: int, delta: Any, p: Any, q: Any, order: Any, out: Any) -> None:
    """Rows `first` to `last` of out = (delta, p, q delta), channels in `order`.

    Rows past the text are zero. Channels past the last repeat it, so that they decay no slower than
    a real one, with keys of zero.
    """
    length, d = delta.shape
    for t in range(first, last):
        if t >= length:
            out[:, t] = _ZERO
            continue
        for k in range(order.size):
            out[0, t, k] = delta[t, order[k]]
        for k in range(order.size):
            out[1, t, k] = p[t, order[k]] if p.size else np.float32(1.0)
        for k in range(d):
            out[2, t, k] = out[0, t, k] * q[t, order[k]] if q.size else out[0, t, k]
        out[2, t, d:] = _ZERO


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _contract(
    first: int,
    last: int,
    arranged: Any,
    A: Any,
    B: Any,
    C: Any,
    shape: Any,
    factors: Any,
    exponents: Any,
    partial: Any,
) -> None:
    """Add the products of chunks `first` to `last` to one thread's `partial` sums (l, l).

    arranged (3, l, d) as `_arrange` writes it; A (n, d); B, C (l, n); shape: channels and states of
    a chunk. factors (2, l, columns) and exponents (2, leaves, columns) are the thread's to fill.
    """
    mode = flush_denormals()
    width, per_chunk = shape
    inputs = (arranged[0], A, B, C, arranged[1], arranged[2])
    parts = (A.shape[0] + per_chunk - 1) // per_chunk
    reach = np.empty((2, exponents.shape[1]), np.float32)
    scratch = np.empty((3 * LEAF, width), np.float32)
    for chunk in range(first, last):
        state = (chunk % parts) * per_chunk
        states = min(per_chunk, A.shape[0] - state)
        window = ((chunk // parts) * width, width, state, states)
        _chunk(inputs, window, scratch, factors[0], factors[1], exponents, reach, partial)
    restore_denormals(mode)


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _chunk(
    inputs: Any,
    window: Any,
    scratch: Any,
    left: Any,
    right: Any,
    exponents: Any,
    reach: Any,
    out: Any,
) -> None:
    """Build leaf after leaf and merge as a binary counter carries, so merges find warm factors."""
    leaves = out.shape[0] // LEAF
    columns = window[1] * window[3]
    factors = (left, right)
    reach[:] = _ZERO
    span = 1
    while span < leaves:
        span *= 2
    for leaf in range(span):
        if leaf < leaves:
            for state in range(window[3]):
                build_leaf(inputs, window, state, leaf, scratch, left, right, exponents[0], out)
            exponents[1, leaf] = exponents[0, leaf]
        size = 1
        while (leaf + 1) % (2 * size) == 0:
            start = leaf + 1 - 2 * size
            block = (start, start + size, min(start + 2 * size, leaves))
            if block[1] < leaves:
                _merge(factors, exponents, block, columns, reach, out)
            size *= 2


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _merge(factors: Any, exponents: Any, block: Any, columns: int, reach: Any, out: Any) -> None:
    """Multiply across the border of two blocks and make one block of them.

    `exponents[0]` keeps every leaf's total exponent, `exponents[1, j]` that of the block which
    starts at leaf j. `reach[0, i]` bounds the exponents from the border to query leaf i, and
    `reach[1, j]` those from key leaf j to the border; -inf marks rows dropped for good.
    """
    left, right = factors
    start, middle, end = block
    whole = exponents[1]
    slowest_left = _slowest(whole[start], columns)
    slowest_right = _slowest(whole[middle], columns)
    if slowest_left + slowest_right < REACH and end - start >= _BOUNDED:
        spare = exponents[0, -1]
        spare[:] = _ZERO
        for i in range(middle, end):
            reach[0, i] = min(reach[0, i], _slowest(spare, columns))
            _add(spare, exponents[0, i])
        spare[:] = _ZERO
        for j in range(middle - 1, start - 1, -1):
            reach[1, j] = min(reach[1, j], _slowest(spare, columns))
            _add(spare, exponents[0, j])
    _multiply(left, right, out, block, columns, reach)
    decay = exponents[1, -1]
    if start > 0:
        _decay(decay, whole[start])
        for i in range(middle, end):
            _rebase(left, i, decay, reach[0], slowest_left, columns)
    if end * LEAF < left.shape[0]:
        _decay(decay, whole[middle])
        for j in range(start, middle):
            _rebase(right, j, decay, reach[1], slowest_right, columns)
    _add(whole[start], whole[middle])


@njit(nogil=True, cache=True)
def _slowest(exponent: Any, columns: int) -> Any:
    """Largest exponent over the chunk.

    The bits of floats <= 0 order like unsigned integers in reverse, and LLVM vectorises a minimum
    of integers where it would keep a maximum of floats in order for the sake of NaNs.
    """
    bits = exponent.view(np.uint32)
    smallest = np.uint32(0xFFFFFFFF)
    for k in range(columns):
        smallest = min(smallest, bits[k] | np.uint32(0x80000000))
    return float_from_bits(smallest)


@njit(nogil=True, cache=True)
def _add(total: Any, values: Any) -> None:
    for k in range(total.size):
        total[k] += values[k]


@njit(nogil=True, cache=True)
def _decay(decay: Any, exponent: Any) -> None:
    for k in range(decay.size):
        decay[k] = exp32(exponent[k])


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _rebase(rows: Any, leaf: int, decay: Any, reach: Any, further: Any, columns: int) -> None:
    """Make a leaf's rows relative to the merged block's edge, or drop them.

    The decays come from summed exponents, not from products of rounded decays, so rounding does
    not grow with the number of leaves.
    """
    if reach[leaf] + further < REACH:
        reach[leaf] = -np.inf
        return
    reach[leaf] = _ZERO
    for t in range(leaf * LEAF, (leaf + 1) * LEAF):
        for k in range(columns):
            rows[t, k] *= decay[k]


@njit(nogil=True, cache=True)
def _multiply(left: Any, right: Any, out: Any, block: Any, columns: int, reach: Any) -> None:
    """Queries of leaves [middle, end) times keys of leaves [start, middle), within reach."""
    start, middle, end = block
    for queries in range(middle, end, _QUERY_PANEL):
        for keys in range(start, middle, _KEY_PANEL):
            last_key = min(keys + _KEY_PANEL, middle)
            if reach[0, queries] + reach[1, last_key - 1] < REACH:
                continue
            for i in range(queries, min(queries + _QUERY_PANEL, end)):
                for j in range(keys, last_key):
                    if reach[0, i] + reach[1, j] >= REACH:
                        multiply_tile(left, right, out, i * LEAF, j * LEAF, columns)


@njit(nogil=True, cache=True)
def _collect(first: int, last: int, partial: Any, scale: Any, matrix: Any) -> None:
    """Lower triangle of the sum over threads, scaled."""
    for t in range(first, last):
        for s in range(t + 1):
            matrix[t, s] = scale * partial[0, t, s]
        for thread in range(1, partial.shape[0]):
            for s in range(t + 1):
                matrix[t, s] += scale * partial[thread, t, s]
