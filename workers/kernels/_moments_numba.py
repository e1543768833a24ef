"""Numba loops of the streaming statistics of neurons.

Layout as in `_scan_numba`: tokens outside, neurons inside, a task is one block of neurons over all
texts of a batch, so that no two threads write to the same neuron. A chunk's rows stay in the cache
while they are read twice, for their mean and for their central moments.
"""

from typing import Any

import numpy as np

from workers.kernels._scan_numba import BLOCK, kernel, reducing

# Tokens of a chunk: of BLOCK neurons they take 32 KiB.
CHUNK = 128
# Rows of the running sums.
MEAN, M2, M3, M4, MAGNITUDE, LOW, HIGH, ACTIVE, PLACE, SUMS = range(10)

_ZERO = np.float32(0.0)


@reducing
def _norms(row: Any) -> Any:
    """sum |x| and sum x^2 of one token's neurons."""
    l1, l2 = _ZERO, _ZERO
    for c in range(len(row)):
        l1 += abs(row[c])
        l2 += row[c] * row[c]
    return l1, l2


@kernel
def _first_sweep(x: Any, place: Any, options: Any, chunk: Any, row_sums: Any) -> None:
    """Sums, extremes and counts of a chunk, into the rows of `chunk`."""
    b, start, width, t0, size, offset = place
    above, middle = options
    total, magnitude, low = chunk[MEAN], chunk[MAGNITUDE], chunk[LOW]
    high, active, at = chunk[HIGH], chunk[ACTIVE], chunk[PLACE]
    for c in range(width):
        total[c], magnitude[c], active[c], at[c] = 0.0, 0.0, 0.0, 0.0
        low[c], high[c] = np.inf, -np.inf
    for i in range(t0, t0 + size):
        row = x[b, i, start : start + width]
        where = np.float64(offset + i) - middle
        for c in range(width):
            v = row[c]
            wide, size_32 = np.float64(v), abs(v)
            total[c] += wide
            magnitude[c] += np.float64(size_32)
            low[c] = wide if wide < low[c] else low[c]
            high[c] = wide if wide > high[c] else high[c]
            active[c] += 1.0 if size_32 > above else 0.0
            at[c] += where * wide
        row_sums[b, i, 0], row_sums[b, i, 1] = _norms(row)


@kernel
def _count_positive(x: Any, place: Any, borders: Any, positive: Any) -> None:
    """Add how often each neuron is above 0 in each bin of positions."""
    b, start, width, t0, size, offset = place
    bin_of = np.searchsorted(borders, offset + t0, side="right") - 1
    for i in range(t0, t0 + size):
        while bin_of + 1 < len(borders) and offset + i >= borders[bin_of + 1]:
            bin_of += 1
        row, counted = x[b, i, start : start + width], positive[bin_of, start : start + width]
        for c in range(width):
            counted[c] += np.int32(1) if row[c] > _ZERO else np.int32(0)


@kernel
def _second_sweep(x: Any, place: Any, chunk: Any) -> None:
    """Central moments of a chunk about its own mean."""
    b, start, width, t0, size, _ = place
    mean, m2, m3, m4 = chunk[MEAN], chunk[M2], chunk[M3], chunk[M4]
    for c in range(width):
        m2[c], m3[c], m4[c] = 0.0, 0.0, 0.0
    for i in range(t0, t0 + size):
        row = x[b, i, start : start + width]
        for c in range(width):
            far = np.float64(row[c]) - mean[c]
            square = far * far
            m2[c] += square
            m3[c] += square * far
            m4[c] += square * square


@kernel
def _merge(sums: Any, start: int, width: int, before: int, chunk: Any, size: int) -> None:
    """Add a chunk of `size` tokens to the running sums over `before` tokens.

    Source: Pebay, "Formulas for Robust, One-Pass Parallel Computation of Covariances and
    Arbitrary-Order Statistical Moments" (SAND2008-6212), equations 2.1 and 3.1.
    """
    na, nb = np.float64(before), np.float64(size)
    n = na + nb
    for c in range(width):
        k = start + c
        delta = chunk[MEAN, c] - sums[MEAN, k]
        step = delta / n
        a2, a3, b2, b3 = sums[M2, k], sums[M3, k], chunk[M2, c], chunk[M3, c]
        cross = delta * step * na * nb
        sums[M4, k] += (
            chunk[M4, c]
            + cross * step * step * (na * na - na * nb + nb * nb)
            + 6.0 * step * step * (na * na * b2 + nb * nb * a2)
            + 4.0 * step * (na * b3 - nb * a3)
        )
        sums[M3, k] += b3 + cross * step * (na - nb) + 3.0 * step * (na * b2 - nb * a2)
        sums[M2, k] += b2 + cross
        sums[MEAN, k] += step * nb
        sums[MAGNITUDE, k] += chunk[MAGNITUDE, c]
        sums[LOW, k] = min(sums[LOW, k], chunk[LOW, c])
        sums[HIGH, k] = max(sums[HIGH, k], chunk[HIGH, c])
        sums[ACTIVE, k] += chunk[ACTIVE, c]
        sums[PLACE, k] += chunk[PLACE, c]


@kernel
def _keep_top(x: Any, place: Any, text: int, chunk: Any, top: Any, where: Any) -> None:
    """Put what is larger in magnitude than the least of the kept into its place among them.

    top (d, k) holds activations, largest magnitude first, where (d, k) their text and position.
    """
    b, start, width, t0, size, offset = place
    last = top.shape[1] - 1
    for c in range(width):
        kept, places = top[start + c], where[start + c]
        if max(-chunk[LOW, c], chunk[HIGH, c]) <= np.float64(abs(kept[last])):
            continue
        for i in range(t0, t0 + size):
            v = x[b, i, start + c]
            if abs(v) <= abs(kept[last]):
                continue
            j = last
            while j > 0 and abs(kept[j - 1]) < abs(v):
                kept[j], places[j, 0], places[j, 1] = (
                    kept[j - 1],
                    places[j - 1, 0],
                    places[j - 1, 1],
                )
                j -= 1
            kept[j], places[j, 0], places[j, 1] = v, text, offset + i


@kernel
def read(
    first: int,
    last: int,
    x: Any,
    texts: Any,
    offset: int,
    before: int,
    options: Any,
    borders: Any,
    sums: Any,
    positive: Any,
    text_sums: Any,
    top: Any,
    where: Any,
    row_sums: Any,
) -> None:
    """Go on through a batch, for blocks of neurons `first..last`.

    x (b, l, d) float32, its tokens from position `offset` on; texts (b, 3): which row to read, its
    tokens here, and its text's index; `before` tokens were read before; options: what counts as
    active, and the middle position. Running, all float64 but where said: sums (SUMS, d), positive
    (bins, d) int64, text_sums (b, d), top (d, k) float32 and where (d, k, 2) int32. row_sums
    (blocks, b, l, 2) float32: each block's part of sum_d |x| and sum_d x^2 of every token.
    """
    channels = x.shape[2]
    chunk = np.empty((SUMS, BLOCK), np.float64)
    for block in range(first, last):
        start = block * BLOCK
        width = min(BLOCK, channels - start)
        done = before
        for r in range(len(texts)):
            b, length, text = texts[r, 0], texts[r, 1], texts[r, 2]
            for t0 in range(0, length, CHUNK):
                size = min(CHUNK, length - t0)
                place = (b, start, width, t0, size, offset)
                _first_sweep(x, place, options, chunk, row_sums[block])
                _count_positive(x, place, borders, positive)
                for c in range(width):
                    text_sums[r, start + c] += chunk[MEAN, c]
                    chunk[MEAN, c] /= size
                _second_sweep(x, place, chunk)
                _merge(sums, start, width, done, chunk, size)
                if top.shape[1]:
                    _keep_top(x, place, text, chunk, top, where)
                done += size
