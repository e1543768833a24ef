"""Panels of lines with dots over layers or depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from workers.figures import style
from workers.figures.colours import Floats
from workers.figures.frame import Frame
from workers.figures.marks import LINE as TO
from workers.figures.marks import MOVE, Box, Outline, dots, lines
from workers.figures.page import Page
from workers.figures.scale import NICE_STEPS, Scale
from workers.figures.style import POINTS_PER_INCH

# In points.
LINE, LINE_SHARE, WHISKER = 1.4, 0.25, 1.0
LARGEST_DOT, DOT_SHARE = 4.2, 0.6
# Two labels below an axis stand at least so far apart, in points.
LABEL_PITCH = 24
# Whiskers need this much room for each place, in points; where there is less, a band stands.
WHISKER_PITCH = 14.0
# A band's alpha, as hexadecimal digits.
BAND = "38"


@dataclass(frozen=True)
class Across:
    """The axis along the lower edge: its title, its ends, and its ticks."""

    title: str
    ends: tuple[float, float]
    places: list[float]
    labels: list[str]

    @classmethod
    def layers(cls, layers: Sequence[int], inches: float) -> "Across":
        """Layers at their own numbers; where they stand too close, every k-th is named."""
        each = sorted(set(layers))
        first, last = each[0], each[-1]
        room = inches * POINTS_PER_INCH / (last - first + 1)
        step = next(s for s in NICE_STEPS if s * room >= LABEL_PITCH)
        apart = all(after - before >= step for before, after in pairwise(each))
        named = each if apart else range(-(-first // step) * step, last + 1, step)
        pad = 0.5 + 0.02 * (last - first)
        return cls(
            "layer", (first - pad, last + pad), [float(i) for i in named], [str(i) for i in named]
        )


@dataclass(frozen=True)
class Curve:
    """One line: values over x, (n,), ascending in x; with the bounds of intervals or without."""

    colour: str
    x: Floats
    values: Floats
    low: Floats | None = None
    high: Floats | None = None


def panel(
    page: Page, box: Box, across: Across, curves: Sequence[Curve], may_bend: bool = False
) -> Scale:
    """Every curve on one scale that has 0 on it. Returns the scale."""
    bounds = [curve.values for curve in curves]
    bounds += [c for curve in curves for c in (curve.low, curve.high) if c is not None]
    everything = np.concatenate([*bounds, np.zeros(1)])
    scale = Scale.of(everything, may_bend=may_bend)
    places = scale.place(everything)
    low = 1.08 * float(places.min())
    high = 1.08 * float(places.max())
    high = high if high > low else 1.0
    frame = page.frame(box, across.ends, (low, high))
    ticks = scale.ticks(2 if low < 0 < high else 4).within(low, high)
    frame.level(ticks.places, style.GRID, 0.6)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", ticks.places, ticks.labels)
    frame.ticks("bottom", across.places, across.labels)
    page.axis_title(box, across.title)
    pitch = box.width * POINTS_PER_INCH / max(1, max(len(curve.x) for curve in curves))
    for index, curve in enumerate(curves):
        shift = _apart(index, len(curves)) if pitch >= WHISKER_PITCH else 0.0
        _draw(frame, scale, curve, pitch, shift)
    return scale


def _apart(index: int, count: int) -> float:
    """Inches by which a curve's whiskers stand aside of those of the others."""
    return (index - (count - 1) / 2) * 2.4 / POINTS_PER_INCH


def _draw(frame: Frame, scale: Scale, curve: Curve, pitch: float, shift: float) -> None:
    points = frame.points(curve.x, scale.place(curve.values))
    if curve.low is not None and curve.high is not None:
        aside = np.array([shift, 0.0])
        points = points + aside
        upper = frame.points(curve.x, scale.place(curve.high)) + aside
        lower = frame.points(curve.x, scale.place(curve.low)) + aside
        if pitch >= WHISKER_PITCH:
            frame.marks.append(lines(upper, lower, curve.colour, WHISKER, snap=False))
        else:
            around = np.concatenate([upper, lower[::-1]])
            steps = np.array([MOVE] + [TO] * (len(around) - 1))
            frame.marks.append(Outline(around, steps, fill=curve.colour + BAND, snap=False))
    if len(points) > 1:
        width = min(LINE, LINE_SHARE * pitch)
        frame.marks.append(lines(points[:-1], points[1:], curve.colour, width, snap=False))
    frame.marks.append(dots(points, min(LARGEST_DOT, DOT_SHARE * pitch), curve.colour))
