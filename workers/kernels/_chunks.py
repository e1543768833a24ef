"""One chunk of the joint index through all merges, and the kernel that takes chunk after chunk."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from workers.kernels._blocks import (
    Inputs,
    Scratch,
    Window,
    build_panel,
    decay_panel,
    pack_keys,
    scale_keys,
    scale_queries,
)
from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._simd import (
    FAST_MATH,
    exp32,
    float_from_bits,
)
from workers.kernels._tile import PANEL, multiply_panels

# Pairs of panels whose exponents are all below this are left out.
REACH = -30.0
# Floats between rows of a sum, so that rows do not compete for one set of the cache.
GAP = 16
# Panels of queries that stay in the second-level cache while panels of keys pass.
_QUERY_PANELS = 8
# Merged blocks of fewer panels are multiplied without looking for pairs out of reach.
_BOUNDED = 4

_ZERO = np.float32(0.0)


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
def contract_chunks(
    first: int,
    last: int,
    inputs: Any,
    texts: Any,
    shape: Any,
    factors: Any,
    exponents: Any,
    partial: Any,
    decays: Any,
    keys: Any,
    leaf_exponents: Any,
    since: Any,
    through: Any,
) -> None:
    """Add the products of tasks `first` to `last`, (text, chunk) pairs, to one thread's sums.

    inputs: all texts, one after the other. texts (texts, 4): each one's first row, rows, tokens and
    place of its sums (weightings, rows, rows + GAP) in the flat `partial`. shape: channels and
    states of a chunk. The rest is the thread's to fill.
    """
    mode = begin_flushing()
    width, per_chunk = shape
    scratch = Scratch(decays, keys, leaf_exponents, since, through)
    reach = np.empty((2, exponents.shape[1]), np.float32)
    held = _Factors(factors[0], factors[1], exponents[0], exponents[1], reach)
    states, weightings = inputs.A.shape[0], inputs.p.shape[1]
    parts = (states + per_chunk - 1) // per_chunk
    chunks = inputs.A.shape[1] // width * parts
    for task in range(first, last):
        row, rows, length, place = texts[task // chunks]
        chunk = task % chunks
        state = (chunk % parts) * per_chunk
        window = Window((chunk // parts) * width, width, state, min(per_chunk, states - state))
        text = Inputs(
            inputs.delta[row : row + rows],
            inputs.A,
            inputs.B[row : row + rows],
            inputs.C[row : row + rows],
            inputs.p[row : row + rows],
            inputs.w[row : row + rows],
        )
        sums = partial[place : place + weightings * rows * (rows + GAP)]
        out = sums.reshape((weightings, rows, rows + GAP))
        _chunk(text, window, length, scratch, held, out)
    end_flushing(mode)


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
            if _rebase_bound(reach[0], i, slowest_left):
                for which in range(out.shape[0]):
                    scale_queries(factors.left[which], i, decay, columns)
    if end * PANEL < out.shape[1]:
        _decay(decay, blocks[middle], columns)
        for j in range(start, middle):
            if _rebase_bound(reach[1], j, slowest_right):
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
    """Decays from summed exponents: products of rounded decays would drift with length."""
    for k in range(columns):
        decay[k] = exp32(exponent[k])


@njit(nogil=True, cache=True)
def _rebase_bound(reach: Any, panel: int, further: Any) -> bool:
    """Move a panel's bound to a merged block's edge; whether it can still reach another."""
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
