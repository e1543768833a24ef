"""Hidden-attention matrices as matrix products over the joint index (d, n).

The product is hierarchical. Rows of a left factor (queries) and a right factor (keys) start
relative to panels of sixteen tokens and are merged pair by pair: the keys of the left block meet
the queries of the right block at the position r between them,

    exp(A(S_t - S_s)) = exp(A(S_t - S_r)) * exp(A(S_r - S_s)),

then both are re-based to the merged block by one multiplication with a decay per (d, n). Every
exponent is <= 0, so nothing overflows and an underflow is a true zero. A chunk of the joint index
runs through all merges before the next one starts, so its factors stay in the cache, and each
thread sums its own chunks without waiting for the others. All weightings of a text share the
decays, which no weighting changes.

A pair of panels is left out for a chunk once every (d, n) in it has decayed by `exp(REACH)`
between them. That changes K[t, s] by at most exp(REACH) (1/d) sum |p_t C_t B_s q_s Delta_s|, six
orders of magnitude below float32 rounding, and makes the cost follow the model's memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from workers.kernels import _parallel
from workers.kernels._blocks import (
    PANEL,
    Inputs,
    Scratch,
    Window,
    build_panel,
    decay_panel,
    multiply_panels,
    new_scratch,
    pack_keys,
    scale_keys,
    scale_queries,
)
from workers.kernels._lanes import LANES
from workers.kernels._simd import (
    FAST_MATH,
    exp32,
    float_from_bits,
    flush_denormals,
    restore_denormals,
)

REACH = -30.0
# Columns of the joint index in a chunk: enough to amortise a panel's sums across lanes, few enough
# that one panel of queries and one of keys fit the first-level cache.
_CHUNK, _NARROWEST = 256, 64
# What one thread's factors may take of the last-level cache; longer texts get narrower chunks.
_FACTOR_BYTES = 1 << 23
# Floats between rows of a sum, so that rows do not compete for one set of the cache.
_GAP = 16
# Panels of queries that stay in the second-level cache while panels of keys pass.
_QUERY_PANELS = 8
# Merged blocks of fewer panels are multiplied without looking for pairs out of reach.
_BOUNDED = 4
# Partial sums of the threads may take this many bytes together.
_PARTIAL_BYTES = 1 << 29

_ZERO = np.float32(0.0)
Weighting = tuple[Tensor | None, Tensor | None]


def contract(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, weightings: Sequence[Weighting]
) -> list[Tensor]:
    """K (l, l) for each (p, q), from float32 CPU tensors; see `hidden_attention`."""
    length, d = delta.shape
    n = A.shape[1]
    count = len(weightings)
    rows = -(-length // PANEL) * PANEL
    widest = _FACTOR_BYTES // (2 * 4 * count * rows)
    groups = -(-d // min(_CHUNK, max(_NARROWEST, widest)))
    width = -(-d // (groups * LANES)) * LANES
    per_chunk = min(n, max(1, _CHUNK // width))
    columns = per_chunk * width
    chunks = groups * -(-n // per_chunk)
    # Some sixty products of the lower triangle take about as long as one update of a scan.
    work = count * length * length * d * n // 128
    affordable = max(1, _PARTIAL_BYTES // (4 * count * rows * rows))
    threads = min(_parallel.threads_for(chunks, work), affordable)

    inputs = _arranged(delta, A, B, C, weightings, (rows, groups * width))
    # torch aligns to the cache line; vector loads that straddle two lines cost double.
    factors = torch.empty(threads, 2, count, rows, columns).numpy()
    exponents = torch.zeros(threads, 2, rows // PANEL + 1, columns).numpy()
    # numpy's zeros are pages that are not touched until used: the upper triangle costs nothing.
    partial = np.zeros((threads, count, rows, rows + _GAP), np.float32)
    scratch = new_scratch(columns, threads)
    _parallel.run(
        _contract,
        chunks,
        work,
        inputs,
        (length, width, per_chunk),
        own=(factors, exponents, partial, *scratch),
        grain=max(1, chunks // (8 * threads)),
    )
    matrices = [np.zeros((length, length), np.float32) for _ in weightings]
    for index, matrix in enumerate(matrices):
        sums = partial[:, index]
        _parallel.run(_collect, length, length * length, sums, np.float32(1.0 / d), matrix)
    return [torch.from_numpy(matrix) for matrix in matrices]


def _arranged(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    weightings: Sequence[Weighting],
    shape: tuple[int, int],
) -> Inputs:
    """Everything padded to `shape` = (rows, channels), channels in order: slowest first."""
    rows, channels = shape
    steps, rates = delta.numpy(), A.numpy()
    slowest_first = np.argsort(-rates.mean(1) * steps.mean(0))
    spare = np.repeat(slowest_first[-1:], channels - slowest_first.size)
    order = np.concatenate([slowest_first, spare])
    arranged = torch.empty(rows, channels).numpy()
    p, w = torch.empty(2, rows, len(weightings), channels).numpy()
    absent = np.empty((0, 0), np.float32)
    for index, weighting in enumerate(weightings):
        given = (absent if values is None else values.numpy() for values in weighting)
        _parallel.run(
            _arrange,
            rows,
            3 * delta.numel(),
            steps,
            *given,
            order,
            arranged,
            p[:, index],
            w[:, index],
        )
    return Inputs(
        arranged,
        np.ascontiguousarray(rates.T[:, order]),
        _extended(B.numpy(), rows),
        _extended(C.numpy(), rows),
        p,
        w,
    )


def _extended(values: Any, rows: int) -> Any:
    """`values` with rows of zeros appended."""
    out = np.zeros((rows, values.shape[1]), np.float32)
    out[: len(values)] = values
    return out


@njit(nogil=True, cache=True)
def _arrange(
    first: int,
    last: int,
    delta: Any,
    p: Any,
    q: Any,
    order: Any,
    arranged: Any,
    queries: Any,
    keys: Any,
) -> None:
    """Rows `first` to `last` of delta, p and q delta, channels in `order`.

    Rows past the text are zero. Channels past the last repeat it, so that they decay no slower than
    a real one, with keys of zero.
    """
    length, d = delta.shape
    for t in range(first, last):
        if t >= length:
            arranged[t] = _ZERO
            queries[t] = _ZERO
            keys[t] = _ZERO
            continue
        for k in range(order.size):
            arranged[t, k] = delta[t, order[k]]
        for k in range(order.size):
            queries[t, k] = p[t, order[k]] if p.size else np.float32(1.0)
        for k in range(d):
            keys[t, k] = arranged[t, k] * q[t, order[k]] if q.size else arranged[t, k]
        keys[t, d:] = _ZERO


class _Factors(NamedTuple):
    """What a thread holds of a chunk.

    left (weightings, l, columns) and right (weightings, panels, columns, tokens); exponents
    (panels, columns) of each panel, blocks (panels, columns) of the block that starts there, each
    with a spare row; reach (2, panels + 1): [0, i] bounds the exponents from the border of a merge
    to query panel i, [1, j] those from key panel j to it; -inf marks panels dropped for good.
    """

    left: Any
    right: Any
    exponents: Any
    blocks: Any
    reach: Any


@njit(nogil=True, cache=True)
def _contract(
    first: int,
    last: int,
    inputs: Any,
    shape: Any,
    factors: Any,
    exponents: Any,
    partial: Any,
    decays: Any,
    keys: Any,
    leaves: Any,
    since: Any,
    through: Any,
) -> None:
    """Add the products of chunks `first` to `last` to one thread's `partial` (weightings, l, l).

    shape: tokens of the text, channels and states of a chunk. The rest is the thread's to fill.
    """
    mode = flush_denormals()
    length, width, per_chunk = shape
    scratch = Scratch(decays, keys, leaves, since, through)
    reach = np.empty((2, exponents.shape[1]), np.float32)
    held = _Factors(factors[0], factors[1], exponents[0], exponents[1], reach)
    states = inputs.A.shape[0]
    parts = (states + per_chunk - 1) // per_chunk
    for chunk in range(first, last):
        state = (chunk % parts) * per_chunk
        window = Window((chunk // parts) * width, width, state, min(per_chunk, states - state))
        _chunk(inputs, window, length, scratch, held, partial)
    restore_denormals(mode)


@njit(nogil=True, cache=True)
def _chunk(inputs: Any, window: Any, length: int, scratch: Any, factors: Any, out: Any) -> None:
    """Build panel after panel and merge as a binary counter carries, so merges find them warm."""
    panels = (length + PANEL - 1) // PANEL
    columns = window.width * window.states
    factors.reach[:] = _ZERO
    span = 1
    while span < panels:
        span *= 2
    for panel in range(span):
        if panel < panels:
            tokens = (panel * PANEL, length)
            place = panel * factors.exponents.shape[1]
            decay_panel(inputs, window, tokens, scratch, factors.exponents, place)
            for k in range(columns):
                factors.blocks[panel, k] = factors.exponents[panel, k]
            for which in range(out.shape[0]):
                left, right = factors.left[which], factors.right[which]
                build_panel(inputs, window, tokens, which, scratch, left, out[which])
                if panel + 1 < panels:
                    pack_keys(scratch.keys, right, panel, columns)
        size = 1
        while (panel + 1) % (2 * size) == 0:
            start = panel + 1 - 2 * size
            block = (start, start + size, min(start + 2 * size, panels))
            if block[1] < panels:
                _merge(factors, block, columns, out)
            size *= 2


@njit(nogil=True, cache=True)
def _merge(factors: Any, block: Any, columns: int, out: Any) -> None:
    """Multiply across the border of two blocks and make one block of them."""
    start, middle, end = block
    blocks, reach = factors.blocks, factors.reach
    slowest_left = _slowest(blocks[start], columns)
    slowest_right = _slowest(blocks[middle], columns)
    if slowest_left + slowest_right < REACH and end - start >= _BOUNDED:
        _bound(factors, block, columns)
    for which in range(out.shape[0]):
        _multiply(factors.left[which], factors.right[which], out[which], block, columns, reach)
    decay = blocks[-1]
    if start > 0:
        _decay(decay, blocks[start], columns)
        for i in range(middle, end):
            if _kept(reach[0], i, slowest_left):
                for which in range(out.shape[0]):
                    scale_queries(factors.left[which], i, decay, columns)
    if end * PANEL < factors.left.shape[1]:
        _decay(decay, blocks[middle], columns)
        for j in range(start, middle):
            if _kept(reach[1], j, slowest_right):
                for which in range(out.shape[0]):
                    scale_keys(factors.right[which], j, decay, columns)
    _add(blocks[start], blocks[middle], columns)


@njit(nogil=True, cache=True)
def _bound(factors: Any, block: Any, columns: int) -> None:
    """How far each panel is from the border of two blocks."""
    start, middle, end = block
    exponents, reach = factors.exponents, factors.reach
    sum_so_far = exponents[-1]
    sum_so_far[:] = _ZERO
    for i in range(middle, end):
        reach[0, i] = min(reach[0, i], _slowest(sum_so_far, columns))
        _add(sum_so_far, exponents[i], columns)
    sum_so_far[:] = _ZERO
    for j in range(middle - 1, start - 1, -1):
        reach[1, j] = min(reach[1, j], _slowest(sum_so_far, columns))
        _add(sum_so_far, exponents[j], columns)


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
def _add(total: Any, values: Any, columns: int) -> None:
    for k in range(columns):
        total[k] += values[k]


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _decay(decay: Any, exponent: Any, columns: int) -> None:
    """Decays come from summed exponents, not from products of rounded decays, so that rounding

    does not grow with the number of panels.
    """
    for k in range(columns):
        decay[k] = exp32(exponent[k])


@njit(nogil=True, cache=True)
def _kept(reach: Any, panel: int, further: Any) -> bool:
    """Whether a panel, re-based to a merged block's edge, can still be in reach of another."""
    if reach[panel] + further < REACH:
        reach[panel] = -np.inf
        return False
    reach[panel] = _ZERO
    return True


@njit(nogil=True, cache=True)
def _multiply(left: Any, right: Any, out: Any, block: Any, columns: int, reach: Any) -> None:
    """Queries of panels [middle, end) times keys of panels [start, middle), within reach."""
    start, middle, end = block
    for queries in range(middle, end, _QUERY_PANELS):
        for j in range(start, middle):
            if reach[0, queries] + reach[1, j] >= REACH:
                for i in range(queries, min(queries + _QUERY_PANELS, end)):
                    if reach[0, i] + reach[1, j] >= REACH:
                        multiply_panels(left, right, out, i, j, columns)


@njit(nogil=True, cache=True)
def _collect(first: int, last: int, partial: Any, scale: Any, matrix: Any) -> None:
    """Lower triangle of the sum over threads, scaled."""
    for t in range(first, last):
        for s in range(t + 1):
            matrix[t, s] = scale * partial[0, t, s]
        for thread in range(1, partial.shape[0]):
            for s in range(t + 1):
                matrix[t, s] += scale * partial[thread, t, s]
