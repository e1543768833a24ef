"""Hidden-attention matrices as matrix products over the joint index (d, n).

The product is hierarchical. Rows of a left factor (queries) and a right factor (keys) start
relative to panels of sixteen tokens and are merged pair by pair: the keys of the left block meet
the queries of the right block at the position r between them,

    exp(A(S_t - S_s)) = exp(A(S_t - S_r)) * exp(A(S_r - S_s)),

then both are re-based to the merged block by one multiplication with a decay per (d, n). Every
exponent is <= 0, so nothing overflows and an underflow is a true zero. A chunk of the joint index
runs through all merges before the next one starts, so its factors stay in the cache, and each
thread sums its own chunks without waiting for the others. Weightings of a short text share the
decays, which no weighting changes.

A pair of panels is left out for a chunk once every (d, n) in it has decayed by `exp(REACH)`
between them. That changes K[t, s] by at most exp(REACH) (1/d) sum |p_t C_t B_s q_s Delta_s|, six
orders of magnitude below float32 rounding, and makes the cost follow the model's memory.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from schemas.pieces import PARTIAL_BYTES
from workers.kernels import _parallel
from workers.kernels._blocks import Inputs, new_scratch
from workers.kernels._chunks import GAP, contract_chunks
from workers.kernels._lanes import LANES
from workers.kernels._tile import PANEL

# Columns of the joint index in a chunk: enough to amortise a panel's sums across lanes, few enough
# that one panel of queries and one of keys fit the first-level cache.
_CHUNK, _NARROWEST = 256, 64
# What one thread's factors may take of the last-level cache; longer texts get narrower chunks.
_FACTOR_BYTES = 1 << 23
# Rows of one factor, over all weightings of a pass, up to which sharing the decays pays. Beyond it
# weightings evict each other's factors, which costs more than computing the decays again.
_SHARED_ROWS = 768

_ZERO = np.float32(0.0)
Weights = tuple[Tensor | None, Tensor | None]
"""Weights p (l, d) of the queries and q (l, d) of the keys; None means ones."""


class Text(NamedTuple):
    """One text of a layer: delta (l, d), B and C (l, n), and the weights to read it by."""

    delta: Tensor
    B: Tensor
    C: Tensor
    weightings: Sequence[Weights]


class _Plan(NamedTuple):
    """How the joint index is cut: `groups` of `width` channels, `per_chunk` states at a time."""

    groups: int
    width: int
    per_chunk: int
    chunks: int


def contract(A: Tensor, texts: Sequence[Text]) -> list[list[Tensor]]:
    """K (l, l) for each text and weighting, from float32 CPU tensors; see `hidden_attention`.

    All texts have the same number of weightings, at least one.
    """
    longest = max(_rows(len(text.delta)) for text in texts)
    together = max(1, _SHARED_ROWS // longest)
    found: list[list[Tensor]] = [[] for _ in texts]
    for first in range(0, len(texts[0].weightings), together):
        own = slice(first, first + together)
        part = [text._replace(weightings=text.weightings[own]) for text in texts]
        for all_of_text, matrices in zip(found, _pass(A, part), strict=True):
            all_of_text.extend(matrices)
    return found


def _rows(length: int) -> int:
    return -(-length // PANEL) * PANEL


def _pass(A: Tensor, texts: Sequence[Text]) -> list[list[Tensor]]:
    """`contract`, all weightings with one computation of the decays."""
    count, (d, n) = len(texts[0].weightings), A.shape
    lengths = [len(text.delta) for text in texts]
    rows = [_rows(length) for length in lengths]
    plan = _plan(max(rows) * count, d, n)
    places = np.cumsum([0] + [count * size * (size + GAP) for size in rows])
    bounds = np.stack([np.cumsum([0, *rows[:-1]]), rows, lengths, places[:-1]], 1)
    tasks = len(texts) * plan.chunks
    # Some sixty products of the lower triangle, or the factors of a few tokens, take about as long
    # as one update of a scan.
    work = count * sum(length * (length + 128) for length in lengths) * d * n // 128
    affordable = max(1, PARTIAL_BYTES // (4 * int(places[-1])))
    threads = min(_parallel.threads_for(tasks, work), affordable)

    columns = plan.per_chunk * plan.width
    # torch aligns to the cache line; vector loads that straddle two lines cost double.
    factors = torch.empty(threads, 2, count, max(rows), columns).numpy()
    exponents = torch.zeros(threads, 2, max(rows) // PANEL + 1, columns).numpy()
    partial = _aligned_zeros((threads, int(places[-1])))
    _parallel.run(
        contract_chunks,
        tasks,
        work,
        _arranged(A, texts, bounds, plan),
        bounds,
        (plan.width, plan.per_chunk),
        own=(factors, exponents, partial, *new_scratch(columns, threads)),
        grain=max(1, tasks // (8 * threads)),
    )
    return [_collected(partial, bound, count, d) for bound in bounds.tolist()]


def _aligned_zeros(shape: tuple[int, int]) -> Any:
    """Zeros that begin at a cache line, in pages that are not touched until used.

    So the upper triangle costs nothing. numpy begins sixteen bytes into a line: each row of a tile
    would then be two lines, which costs a long text a third of its speed.
    """
    zeros = np.zeros(math.prod(shape) + 15, np.float32)
    first = -zeros.ctypes.data % 64 // 4
    return zeros[first : first + math.prod(shape)].reshape(shape)


def _collected(partial: Any, bound: list[int], count: int, d: int) -> list[Tensor]:
    """One text's matrices, from what each thread has summed."""
    _, rows, length, place = bound
    stride, matrices = rows + GAP, []
    for index in range(count):
        matrix = np.zeros((length, length), np.float32)
        sums = (place + index * rows * stride, stride)
        _parallel.run(_collect, length, length * length, partial, sums, np.float32(1 / d), matrix)
        matrices.append(torch.from_numpy(matrix))
    return matrices


def _plan(rows: int, d: int, n: int) -> _Plan:
    """`rows`: of one factor, all weightings together."""
    widest = _FACTOR_BYTES // (2 * 4 * rows)
    groups = -(-d // min(_CHUNK, max(_NARROWEST, widest)))
    width = -(-d // (groups * LANES)) * LANES
    per_chunk = min(n, max(1, _CHUNK // width))
    return _Plan(groups, width, per_chunk, groups * -(-n // per_chunk))


def _arranged(A: Tensor, texts: Sequence[Text], bounds: Any, plan: _Plan) -> Inputs:
    """All texts one after the other, rows and channels padded, channels slowest first."""
    rates, rows = A.numpy(), int(bounds[-1, 0] + bounds[-1, 1])
    d, n = rates.shape
    channels = plan.groups * plan.width
    steps = torch.stack([text.delta.sum(0) for text in texts]).sum(0)
    slowest_first = np.argsort(-rates.mean(1) * steps.numpy())
    order = np.concatenate([slowest_first, np.repeat(slowest_first[-1:], channels - d)])
    delta = torch.empty(rows, channels).numpy()
    B, C = np.zeros((2, rows, n), np.float32)
    p, w = torch.empty(2, rows, len(texts[0].weightings), channels).numpy()
    absent = np.empty((0, 0), np.float32)
    for text, (first, size, length, _) in zip(texts, bounds, strict=True):
        own = slice(first, first + size)
        B[first : first + length], C[first : first + length] = text.B.numpy(), text.C.numpy()
        for index, weighting in enumerate(text.weightings):
            _parallel.run(
                _arrange,
                int(size),
                3 * text.delta.numel(),
                text.delta.numpy(),
                *(absent if values is None else values.numpy() for values in weighting),
                order,
                index,
                delta[own],
                p[own],
                w[own],
            )
    arranged = torch.empty(n, channels).numpy()
    arranged[:] = rates[order].T
    return Inputs(delta, arranged, B, C, p, w)


@njit(nogil=True, cache=True)
def _arrange(
    first: int,
    last: int,
    delta: Any,
    p: Any,
    q: Any,
    order: Any,
    index: int,
    arranged: Any,
    queries: Any,
    keys: Any,
) -> None:
    """Rows `first` to `last` of delta, p and q delta of one weighting, channels in `order`.

    Rows past the text are zero. Channels past the last repeat it, so that they decay no slower than
    a real one, with keys of zero.
    """
    length, d = delta.shape
    for t in range(first, last):
        if t >= length:
            arranged[t] = _ZERO
            queries[t, index] = _ZERO
            keys[t, index] = _ZERO
            continue
        for k in range(order.size):
            arranged[t, k] = delta[t, order[k]]
        for k in range(order.size):
            queries[t, index, k] = p[t, order[k]] if p.size else np.float32(1.0)
        for k in range(d):
            keys[t, index, k] = arranged[t, k] * q[t, order[k]] if q.size else arranged[t, k]
        keys[t, index, d:] = _ZERO


@njit(nogil=True, cache=True)
def _collect(first: int, last: int, partial: Any, sums: Any, scale: Any, matrix: Any) -> None:
    """Lower triangle of the sum over threads, scaled; sums: place of the first row, and stride."""
    for t in range(first, last):
        row = sums[0] + t * sums[1]
        for s in range(t + 1):
            matrix[t, s] = scale * partial[0, row + s]
        for thread in range(1, partial.shape[0]):
            for s in range(t + 1):
                matrix[t, s] += scale * partial[thread, row + s]
