"""95 % intervals of a mean: the percentile bootstrap's, and Student's.

Axes: k measures, c values.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from schemas.interval import Interval
from workers.numbers import Floats, number

_LEVEL = 0.95
# Bounds of a 95 % interval.
_BOUNDS = (0.025, 0.975)
# How often each text was drawn, of so many resamples at once that this many numbers are held.
_COUNTS = 1 << 21


def bootstrapped(values: Floats, seed: int, resamples: int) -> Floats:
    """Means of values (texts, k) and the bounds of their intervals, (3, k): mean, low, high."""
    # Differences from the first text: of values that are all alike every mean is the value itself.
    first = values[0]
    spread = values - first
    means = np.concatenate([counts @ spread for counts in _draws(len(values), seed, resamples)])
    means /= len(values)
    bounds = np.quantile(means, _BOUNDS, axis=0, overwrite_input=True)
    found: Floats = first + np.concatenate([spread.mean(0)[None], bounds])
    return found


def _draws(texts: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each resample has each text, some resamples (rows, texts) at a time."""
    source = np.random.default_rng(seed)
    height = max(1, _COUNTS // texts)
    for start in range(0, resamples, height):
        rows = min(height, resamples - start)
        drawn = source.integers(texts, size=(rows, texts))
        drawn += texts * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * texts)
        yield counts.reshape(rows, texts).astype(np.float64)


def mean_interval(values: Floats) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval of the mean that the values (c,) are drawn about.

    It says how well that mean is known, not how far single values lie from it.
    Raises ValueError: fewer than two values.
    """
    count = len(values)
    if count < 2:
        raise ValueError("an interval needs two values")
    mean = float(values.mean())
    reach = student_quantile(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return mean, mean - reach, mean + reach


def student_quantile(degrees: int) -> float:
    """The t that 95 % of Student's distribution with so many degrees of freedom lie within.

    The distribution function is the finite sum of Abramowitz and Stegun, Handbook of Mathematical
    Functions, 26.7.3 and 26.7.4, over the angle with tan = t / sqrt(degrees); bisected.
    """
    return math.tan(_bisected(lambda angle: _within(angle, degrees))) * math.sqrt(degrees)


def rounded_interval(mean: float, low: float, high: float) -> Interval:
    """An interval as the document has it."""
    return Interval(mean=number(mean), low=number(low), high=number(high))


def _bisected(rises: Callable[[float], float]) -> float:
    """The angle at which a rising function of it comes to the level."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < _LEVEL else (low, middle)
    return low


def _within(angle: float, degrees: int) -> float:
    """The share of Student's distribution between -t and t."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    # The powers of the cosine: 1, 3, .. up to degrees - 2, or 0, 2, .. up to it.
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
