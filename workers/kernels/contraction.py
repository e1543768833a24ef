"""The hidden-attention matrix as one matrix product over the joint index (d, n).

The product is hierarchical. Rows of a left factor (queries) and a right factor (keys) start
relative to leaves of four tokens and are merged pair by pair: the keys of the left block meet the
queries of the right block at the position r between them,

    exp(A(S_t - S_s)) = exp(A(S_t - S_r)) * exp(A(S_r - S_s)),

then both are re-based to the merged block by one multiplication with a decay per (d, n). Every
exponent is <= 0, so nothing overflows and an underflow is a true zero. A chunk of the joint index
runs through all merges before the next one starts, so its factors stay in the cache, and each
thread sums its own chunks without waiting for the others.

A pair of leaves is left out for a chunk once every (d, n) in it has decayed by ``exp(REACH)``
between them. That changes K[t, s] by at most exp(REACH) (1/d) sum |p_t C_t B_s q_s Delta_s|, six
orders of magnitude below float32 rounding, and makes the cost follow the model's memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from workers.kernels import _parallel
from workers.kernels._simd import exp32, float_from_bits, flush_denormals, restore_denormals

LEAF = 4
REACH = -30.0
# Columns of the joint index in a chunk: long enough to amortise the sums across vector lanes,
# short enough that both factors of a few thousand tokens fit the last-level cache.
_CHUNK = 512
_LANES = 16
# Leaves of queries (second-level cache) and of keys (first-level cache) that are multiplied
# together before moving on.
# Merged blocks of fewer leaves are multiplied without looking for pairs out of reach.
_BOUNDED = 16
_QUERY_PANEL = 32
_KEY_PANEL = 4
# Partial sums of the threads may take this many bytes together.
_PARTIAL_BYTES = 1 << 29

_FAST = {"reassoc", "contract", "nsz"}
_ZERO = np.float32(0.0)


def contract(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, p: Tensor | None, q: Tensor | None
) -> Tensor:
    """K (l, l) from float32 CPU tensors; see ``hidden_attention.attention_matrix``."""
    length, d = delta.shape
    n = A.shape[1]
    groups = -(-d // _CHUNK)
    width = -(-d // (groups * _LANES)) * _LANES
    per_chunk = min(n, max(1, _CHUNK // width))
    leaves = -(-length // LEAF)
    rows = leaves * LEAF
    chunks = groups * -(-n // per_chunk)
    # Sixteen products of the lower triangle take about as long as one update of a scan.
    work = length * length * d * n // 32
    affordable = max(1, _PARTIAL_BYTES // (4 * rows * rows))
    threads = min(_parallel.threads_for(chunks, work), affordable)

    order = _slowest_first(delta, A, groups * width)
    weighted = delta if q is None else delta * q
    keys = _padded(weighted, order, rows)
    keys[:, d:] = 0.0
    queries = _padded(torch.ones_like(delta) if p is None else p, order, rows)
    stride = per_chunk * width + _LANES
    # torch aligns to the cache line; vector loads that straddle two lines cost double.
    factors = torch.empty(threads, 2, rows, stride).numpy()
    exponents = torch.zeros(threads, 2, leaves + 1, stride).numpy()
    # numpy's zeros are pages that are not touched until used: the upper triangle costs nothing.
    partial = np.zeros((threads, rows, rows + _LANES), np.float32)
    _parallel.run(
        _contract,
        threads,
        work,
        _padded(delta, order, rows).numpy(),
        np.ascontiguousarray(A.T[:, order].numpy()),
        torch.nn.functional.pad(B, (0, 0, 0, rows - length)).numpy(),
        torch.nn.functional.pad(C, (0, 0, 0, rows - length)).numpy(),
        queries.numpy(),
        keys.numpy(),
        (width, per_chunk),
        factors,
        exponents,
        partial,
    )
    matrix = np.zeros((length, length), np.float32)
    _parallel.run(_collect, length, length * length, partial, np.float32(1.0 / d), matrix)
    return torch.from_numpy(matrix)


def _slowest_first(delta: Tensor, A: Tensor, columns: int) -> Tensor:
    """Channels ordered by decay rate, the last one repeated up to ``columns``."""
    order = torch.argsort(-A.mean(1) * delta.sum(0))
    return torch.cat([order, order[-1:].expand(columns - order.numel())])


def _padded(values: Tensor, order: Tensor, rows: int) -> Tensor:
    """``values[:, order]`` with rows of zeros appended."""
    out = torch.zeros(rows, order.numel())
    torch.index_select(values, 1, order, out=out[: values.shape[0]])
    return out


@njit(nogil=True, cache=True, fastmath=_FAST)
def _contract(
    first: int,
    last: int,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    p: Any,
    w: Any,
    shape: Any,
    factors: Any,
    exponents: Any,
    partial: Any,
) -> None:
    """Sum the products of every chunk of threads ``first`` to ``last`` into ``partial[thread]``."""
    width, per_chunk = shape
    n = A.shape[0]
    parts = (n + per_chunk - 1) // per_chunk
    chunks = (A.shape[1] // width) * parts
    threads = partial.shape[0]
    for thread in range(first, last):
        mode = flush_denormals()
        reach = np.empty((2, exponents.shape[2]), np.float32)
        scratch = np.empty((3 * LEAF, width), np.float32)
        for chunk in range(thread, chunks, threads):
            state = (chunk % parts) * per_chunk
            states = min(per_chunk, n - state)
            d0 = (chunk // parts) * width
            _chunk(
                (delta, A, B, C, p, w),
                (d0, width, state, states),
                scratch,
                factors[thread, 0],
                factors[thread, 1],
                exponents[thread],
                reach,
                partial[thread],
            )
        restore_denormals(mode)


@njit(nogil=True, cache=True, fastmath=_FAST)
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
                _leaf(inputs, window, state, leaf, scratch, left, right, exponents[0], out)
            exponents[1, leaf] = exponents[0, leaf]
        size = 1
        while (leaf + 1) % (2 * size) == 0:
            start = leaf + 1 - 2 * size
            block = (start, start + size, min(start + 2 * size, leaves))
            if block[1] < leaves:
                _merge(factors, exponents, block, columns, reach, out)
            size *= 2


@njit(nogil=True, cache=True, fastmath=_FAST)
def _leaf(
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
    """Factors, total exponent and diagonal block of one leaf, for one state of the chunk."""
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


# The loops below write one array each and index from zero: LLVM vectorises a loop only where it
# can show cheaply that what is written overlaps nothing that is read and that no index is negative.


@njit(nogil=True, cache=True, fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def _total(a: Any, x0: Any, x1: Any, x2: Any, x3: Any, exponent: Any) -> None:
    for k in range(exponent.size):
        exponent[k] = a[k] * ((x0[k] + x1[k]) + (x2[k] + x3[k]))


@njit(nogil=True, cache=True, fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def _merge(factors: Any, exponents: Any, block: Any, columns: int, reach: Any, out: Any) -> None:
    """Multiply across the border of two blocks and make one block of them.

    ``exponents[0]`` keeps every leaf's total exponent, ``exponents[1, j]`` that of the block which
    starts at leaf j. ``reach[0, i]`` bounds the exponents from the border to query leaf i, and
    ``reach[1, j]`` those from key leaf j to the border; -inf marks rows dropped for good.
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


@njit(nogil=True, cache=True, fastmath=_FAST)
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
                        _tile(left, right, out, i * LEAF, j * LEAF, columns)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _tile(left: Any, right: Any, out: Any, i: int, j: int, columns: int) -> None:
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


@njit(nogil=True, cache=True)
def _collect(first: int, last: int, partial: Any, scale: Any, matrix: Any) -> None:
    """Lower triangle of the sum over threads, scaled."""
    for t in range(first, last):
        for s in range(t + 1):
            matrix[t, s] = scale * partial[0, t, s]
        for thread in range(1, partial.shape[0]):
            for s in range(t + 1):
                matrix[t, s] += scale * partial[thread, t, s]
