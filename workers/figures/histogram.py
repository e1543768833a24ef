"""How often magnitudes occur, in bins of equal ratios."""

# ruff: noqa: RUF001 (a true multiplication sign is typeset on purpose)

import math
from collections.abc import Sequence

import numpy as np

from workers.figures import style, words
from workers.figures.colours import Floats
from workers.figures.marks import Box
from workers.figures.page import Page
from workers.figures.scale import Scale

BINS = 48
# Magnitudes further below the largest stand in no bin.
DECADES = 6
# A single magnitude stands in the middle of so many decades.
NARROWEST = 0.6
# Below so many decades the ticks are at 1, 2 and 5, not at powers of ten alone.
FEW_DECADES = 2.0


def histogram(page: Page, box: Box, values: Floats, marked: Floats) -> str:
    """Bars of the numbers of magnitudes `values` (n,), none of them negative, in each bin.

    Those of `marked` have dots on the lower edge. Returns how many stand in no bin: zeros, for
    which a logarithmic scale has no place, and what is too small beside the largest.
    """
    positive = values[values > 0]
    left_out = [f"{len(values) - len(positive)} at 0"] if len(positive) < len(values) else []
    if positive.size:
        low, high = _ends(positive)
        logarithms = np.log10(positive)
        below = int((logarithms < low).sum())
        left_out += [f"{below} below {words.number(10**low)}"] if below else []
        _bars(page, box, logarithms, (low, high))
        frame = page.frame(box, (low, high), (0.0, 1.0))
        for value in np.log10(marked[marked > 0]).tolist():
            if value >= low:
                frame.dot(value, 0.0, 3.6, style.POSITIVE)
    return ", ".join(left_out)


def _bars(page: Page, box: Box, logarithms: Floats, ends: tuple[float, float]) -> None:
    edges = np.linspace(*ends, BINS + 1)
    counts, _ = np.histogram(logarithms, edges)
    most = int(counts.max())
    frame = page.frame(box, ends, (0.0, 1.1 * most))
    ticks = Scale(float(most), signed=False).ticks(3 if most > 2 else 1)
    places = [most * place for place in ticks.places]
    frame.level(places, style.GRID, 0.6)
    filled = np.flatnonzero(counts)
    frame.boxes((edges[filled], edges[filled + 1]), (0.0, counts[filled]), style.PLAIN)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", places, ticks.complete)
    at = _ticks(*ends)
    frame.ticks("bottom", [math.log10(value) for value in at], [_short(value) for value in at])


def _ends(positive: Floats) -> tuple[float, float]:
    """Logarithms of the least and the largest, made apart."""
    high = math.log10(float(positive.max()))
    low = max(math.log10(float(positive.min())), high - DECADES)
    lacking = max(0.0, NARROWEST - (high - low)) / 2
    return low - lacking, high + lacking


def _ticks(low: float, high: float) -> Sequence[float]:
    digits = (1, 2, 5) if high - low < FEW_DECADES else (1,)
    decades = range(math.floor(low), math.floor(high) + 1)
    found = [digit * 10.0**decade for decade in decades for digit in digits]
    return [value for value in found if low <= math.log10(value) <= high]


def _short(value: float) -> str:
    """0.05, 20, 10⁻⁵, 2×10⁻⁵."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = round(value / 10.0**exponent)
    return words.power(exponent) if digit == 1 else f"{digit}×{words.power(exponent)}"
