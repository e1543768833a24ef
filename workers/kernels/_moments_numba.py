"""Numba loops of the streaming statistics of neurons.

Layout as in `_scan_numba`: tokens outside, neurons inside, a task is one block of neurons over all
texts of a batch, so that no two threads write to the same neuron. A chunk is read once: its moments
are summed about the mean of what came before, and moved to its own mean at its end. Four tokens at
a time, for sums that are loaded and stored at every token cost more than the arithmetic.
"""

from typing import Any

import numpy as np

from workers.kernels._scan_numba import BLOCK, kernel, reducing, softplus_of

# Tokens of a chunk at most: of BLOCK neurons they take 16 KiB, and stay in the L1 cache.
CHUNK = 64
# Rows of the running sums; of a chunk, the first four are sums of powers about a shift.
MEAN, M2, M3, M4, MAGNITUDE, LOW, HIGH, ACTIVE, PLACE, SUMS = range(10)
# Rows of a chunk's sums in float32: as exact as they are read, for a chunk.
_SIZE, _LOW, _HIGH, _ACTIVE, _NARROW = range(5)

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_INF = np.float32(np.inf)


@kernel
def _powers(tile: Any, size: int, where: float, shift: Any, wide: Any) -> None:
    """Sums of a chunk's powers about the shift, and of their products with the position.

    where: the first token's position, less the middle one.
    """
    s1, s2, s3, s4, at = wide[MEAN], wide[M2], wide[M3], wide[M4], wide[PLACE]
    wide[:] = 0.0
    for i in range(0, size - size % 4, 4):
        w0 = where + np.float64(i)
        w1, w2, w3 = w0 + 1.0, w0 + 2.0, w0 + 3.0
        for c in range(BLOCK):
            k = shift[c]
            p, q = np.float64(tile[i, c]) - k, np.float64(tile[i + 1, c]) - k
            r, s = np.float64(tile[i + 2, c]) - k, np.float64(tile[i + 3, c]) - k
            pp, qq, rr, ss = p * p, q * q, r * r, s * s
            s1[c] += (p + q) + (r + s)
            s2[c] += (pp + qq) + (rr + ss)
            s3[c] += (pp * p + qq * q) + (rr * r + ss * s)
            s4[c] += (pp * pp + qq * qq) + (rr * rr + ss * ss)
            at[c] += (w0 * p + w1 * q) + (w2 * r + w3 * s)
    for i in range(size - size % 4, size):
        w0 = where + np.float64(i)
        for c in range(BLOCK):
            p = np.float64(tile[i, c]) - shift[c]
            pp = p * p
            s1[c] += p
            s2[c] += pp
            s3[c] += pp * p
            s4[c] += pp * pp
            at[c] += w0 * p


@kernel
def _sizes(tile: Any, size: int, above: Any, narrow: Any) -> None:
    """A chunk's magnitudes, extremes, and how often a neuron is active."""
    total, low, high, active = narrow[_SIZE], narrow[_LOW], narrow[_HIGH], narrow[_ACTIVE]
    narrow[:] = _ZERO
    low[:], high[:] = _INF, -_INF
    for i in range(0, size - size % 4, 4):
        for c in range(BLOCK):
            p, q, r, s = tile[i, c], tile[i + 1, c], tile[i + 2, c], tile[i + 3, c]
            total[c] += (abs(p) + abs(q)) + (abs(r) + abs(s))
            low[c] = min(low[c], min(min(p, q), min(r, s)))
            high[c] = max(high[c], max(max(p, q), max(r, s)))
            found = (_ONE if abs(p) > above else _ZERO) + (_ONE if abs(q) > above else _ZERO)
            found += (_ONE if abs(r) > above else _ZERO) + (_ONE if abs(s) > above else _ZERO)
            active[c] += found
    for i in range(size - size % 4, size):
        for c in range(BLOCK):
            p = tile[i, c]
            total[c] += abs(p)
            low[c], high[c] = min(low[c], p), max(high[c], p)
            active[c] += _ONE if abs(p) > above else _ZERO


@kernel
def _count_positive(tile: Any, size: int, counted: Any) -> None:
    """How often each neuron is above 0 in a chunk, all of one bin of positions, into (BLOCK,)."""
    for i in range(size):
        for c in range(BLOCK):
            counted[c] += _ONE if tile[i, c] > _ZERO else _ZERO


@kernel
def _fill_bins(tile: Any, size: int, place: Any, bins: Any, counted: Any, positive: Any) -> Any:
    """Add how often each neuron is above 0 in each bin of positions; the bin that comes next."""
    start, width, _, position = place
    borders, bin_of = bins
    i = 0
    while i < size:
        stop = size
        if bin_of + 1 < len(borders):
            stop = min(stop, borders[bin_of + 1] - position)
        if stop - i == 1:
            row = positive[bin_of, start : start + width]
            for c in range(width):
                row[c] += np.int32(1) if tile[i, c] > _ZERO else np.int32(0)
        else:
            counted[:] = _ZERO
            _count_positive(tile[i:stop], stop - i, counted)
            for c in range(width):
                positive[bin_of, start + c] += np.int32(counted[c])
        i = stop
        if bin_of + 1 < len(borders) and position + i >= borders[bin_of + 1]:
            bin_of += 1
    return bin_of


@kernel
def _centre(wide: Any, shift: Any, size: int, where: float) -> None:
    """From powers about the shift to the chunk's mean and central moments."""
    n = np.float64(size)
    # The sum of the chunk's positions, less the middle.
    places = n * where + 0.5 * n * (n - 1.0)
    for c in range(BLOCK):
        step, s2, s3, s4 = wide[MEAN, c] / n, wide[M2, c], wide[M3, c], wide[M4, c]
        square = step * step
        wide[M4, c] = s4 - 4.0 * step * s3 + 6.0 * square * s2 - 3.0 * n * square * square
        wide[M3, c] = s3 - 3.0 * step * s2 + 2.0 * n * square * step
        wide[M2, c] = max(0.0, s2 - n * square)
        wide[MEAN, c] = shift[c] + step
        wide[PLACE, c] += shift[c] * places


@kernel
def _merge(sums: Any, place: Any, before: int, chunk: Any, narrow: Any) -> None:
    """Add a chunk to the running sums over `before` tokens.

    Source: Pebay, "Formulas for Robust, One-Pass Parallel Computation of Covariances and
    Arbitrary-Order Statistical Moments" (SAND2008-6212), equations 2.1 and 3.1.
    """
    start, width, size, _ = place
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
        sums[PLACE, k] += chunk[PLACE, c]
        sums[MAGNITUDE, k] += np.float64(narrow[_SIZE, c])
        sums[LOW, k] = min(sums[LOW, k], np.float64(narrow[_LOW, c]))
        sums[HIGH, k] = max(sums[HIGH, k], np.float64(narrow[_HIGH, c]))
        sums[ACTIVE, k] += np.float64(narrow[_ACTIVE, c])


@kernel
def _keep_top(tile: Any, place: Any, text: int, narrow: Any, top: Any, where: Any) -> None:
    """Put what is larger in magnitude than the least of the kept into its place among them.

    top (d, k) holds activations, largest magnitude first, where (d, k) their text and position.
    """
    start, width, size, position = place
    last = top.shape[1] - 1
    for c in range(width):
        kept, places = top[start + c], where[start + c]
        if max(-narrow[_LOW, c], narrow[_HIGH, c]) <= abs(kept[last]):
            continue
        for i in range(size):
            v = tile[i, c]
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
            kept[j], places[j, 0], places[j, 1] = v, text, position + i


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
) -> None:
    """Go on through a batch, for blocks of neurons `first..last`.

    x (b, l, d) float32, its tokens from position `offset` on; texts (b, 3): which row to read, its
    tokens here, and its text's index; `before` tokens were read before; options: what counts as
    active, and the middle position. Running, float64 but where said: sums (SUMS, d), positive
    (bins, d) int32, text_sums (b, d), top (d, k) float32 and where (d, k, 2) int32.
    """
    channels = x.shape[2]
    above, middle = options
    tile = np.zeros((CHUNK, BLOCK), np.float32)
    wide = np.empty((SUMS, BLOCK), np.float64)
    narrow = np.empty((_NARROW, BLOCK), np.float32)
    shift = np.zeros(BLOCK, np.float64)
    counted = np.zeros(BLOCK, np.float32)
    for block in range(first, last):
        start = block * BLOCK
        width = min(BLOCK, channels - start)
        tile[:] = _ZERO
        done = before
        for r in range(len(texts)):
            b, length, text = texts[r, 0], texts[r, 1], texts[r, 2]
            bin_of = np.searchsorted(borders, offset, side="right") - 1
            for t0 in range(0, length, CHUNK):
                size = min(CHUNK, length - t0)
                for i in range(size):
                    row = x[b, t0 + i, start : start + width]
                    for c in range(width):
                        tile[i, c] = row[c]
                for c in range(width):
                    shift[c] = sums[MEAN, start + c] if done else np.float64(tile[0, c])
                where_0 = np.float64(offset + t0) - middle
                _powers(tile, size, where_0, shift, wide)
                _sizes(tile, size, above, narrow)
                place = (start, width, size, offset + t0)
                bin_of = _fill_bins(tile, size, place, (borders, bin_of), counted, positive)
                for c in range(width):
                    text_sums[r, start + c] += wide[MEAN, c] + size * shift[c]
                _centre(wide, shift, size, where_0)
                _merge(sums, place, done, wide, narrow)
                if top.shape[1]:
                    _keep_top(tile, place, text, narrow, top, where)
                done += size


@reducing
def norms(first: int, last: int, x: Any, texts: Any, out: Any) -> None:
    """sum |x| and sum x^2 (b, l, 2) of each token's neurons, of texts `first..last`."""
    for r in range(first, last):
        b = texts[r, 0]
        for t in range(texts[r, 1]):
            l1, l2 = _ZERO, _ZERO
            for c in range(x.shape[2]):
                v = x[b, t, c]
                l1 += abs(v)
                l2 += v * v
            out[b, t, 0], out[b, t, 1] = l1, l2


@reducing
def _step_sums(values: Any, bias: Any, softplus: bool, shift: float) -> Any:
    """Sums of Delta and of its squares about a shift, over one channel's tokens."""
    s1, s2 = 0.0, 0.0
    if softplus:
        for t in range(len(values)):
            far = np.float64(softplus_of(values[t] + bias)) - shift
            s1 += far
            s2 += far * far
    else:
        for t in range(len(values)):
            far = np.float64(values[t]) - shift
            s1 += far
            s2 += far * far
    return s1, s2


@kernel
def read_steps(
    first: int,
    last: int,
    x: Any,
    bias: Any,
    softplus: bool,
    texts: Any,
    before: int,
    place: int,
    sums: Any,
) -> None:
    """Go on through a batch of x (b, c, l), for channels `first..last`.

    texts (b, 2): which row to read, and its tokens here. bias (c,), which with a softplus makes x
    Delta. sums (2, ..): running mean and M2 of all channels, the first of these at `place`.
    """
    for c in range(first, last):
        done, own = before, place + c
        for r in range(len(texts)):
            size = texts[r, 1]
            values = x[texts[r, 0], c, :size]
            mean = sums[0, own]
            s1, s2 = _step_sums(values, bias[c], softplus, mean)
            step = s1 / np.float64(done + size)
            sums[0, own] = mean + step
            # Their squares about the old mean, moved to the new one.
            sums[1, own] += max(0.0, s2 - s1 * step)
            done += size
