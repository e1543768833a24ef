"""A rectangle of a page with values along its edges: lines, bars, boxes, dots, a picture, ticks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workers.figures import style
from workers.figures.colours import Floats, Rgb
from workers.figures.marks import Box, Mark, Picture, Words, dot, lines, rectangles
from workers.figures.style import ASCENT, CAPITALS, POINT, POINTS_PER_INCH

TICK, TICK_WIDTH, TICK_PAD = 2.5 * POINT, 0.6, 2.5 * POINT
# In points. Bars narrower than this vanish between pixels, so they keep this width and may overlap.
THINNEST_BAR = 0.5
THICKEST_BAR = 7.0
BAR_SHARE = 0.7


@dataclass(frozen=True)
class Frame:
    """Draws into `marks`. x: the values at the left and right edge; y: at the lower and upper."""

    marks: list[Mark]
    box: Box
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, values: Floats) -> Floats:
        """Inches from the page's left edge."""
        low, high = self.x
        return self.box.left + (values - low) / (high - low) * self.box.width

    def down(self, values: Floats) -> Floats:
        """Inches from the page's upper edge."""
        low, high = self.y
        return self.box.top + (high - values) / (high - low) * self.box.height

    def points(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """(n, 2) on the page."""
        both = np.broadcast_arrays(self.across(np.asarray(x)), self.down(np.asarray(y)))
        return np.stack(both, axis=-1).reshape(-1, 2)

    def level(self, values: Sequence[float], colour: str, width: float) -> None:
        """Lines from the left edge to the right."""
        y = np.array(values)
        self.marks.append(
            lines(self.points(self.x[0], y), self.points(self.x[1], y), colour, width)
        )

    def upright(self, values: Sequence[float], colour: str, width: float) -> None:
        """Lines from the lower edge to the upper."""
        x = np.array(values)
        self.marks.append(
            lines(self.points(x, self.y[0]), self.points(x, self.y[1]), colour, width)
        )

    def picture(self, cells: Rgb) -> None:
        """Fill the frame with cells (rows, columns, 3 or 4), the first row at the top."""
        self.marks.append(Picture(self.box, cells))

    def bars(self, values: Floats, colours: Sequence[str], thinnest: float = THINNEST_BAR) -> None:
        """Upright bars from 0 to values (n,), at 0, 1, 2, ..., as one outline per colour.

        Two colours are those of the positive and of the negative ones. `thinnest` is in points.
        """
        pitch = self.box.width * POINTS_PER_INCH / max(len(values), 1)
        thickness = float(np.clip(pitch * BAR_SHARE, thinnest, THICKEST_BAR))
        chosen = [values > 0, values < 0] if len(colours) > 1 else [values != 0]
        for mask, colour in zip(chosen, colours, strict=True):
            index = np.flatnonzero(mask)
            starts, ends = self.points(index, 0.0), self.points(index, values[index])
            self.marks.append(lines(starts, ends, colour, thickness, snap=False))

    def boxes(
        self,
        x: tuple[npt.ArrayLike, npt.ArrayLike],
        y: tuple[npt.ArrayLike, npt.ArrayLike],
        colour: str,
    ) -> None:
        """Filled rectangles (n,) from x[0] to x[1] and from y[0] to y[1], as one outline."""
        corners = np.hstack([self.points(x[0], y[0]), self.points(x[1], y[1])])
        self.marks.append(rectangles(corners, colour))

    def dot(
        self, x: float, y: float, diameter: float, fill: str | None = None, ring: float = 0.0
    ) -> None:
        """A dot, or a white ring, of so many points."""
        [(across, down)] = self.points(x, y)
        self.marks.append(dot(across, down, diameter, fill, ring))

    def ticks(
        self,
        side: Literal["bottom", "left", "right"],
        places: Sequence[float],
        labels: Sequence[str],
        strong: int | None = None,
        upright: bool = False,
    ) -> None:
        """Ticks and their labels outside one edge; the label at index `strong` stands out."""
        at, end, reach = np.array(places), TICK, TICK + TICK_PAD
        size = style.SMALL * POINT
        if side == "bottom":
            starts = self.points(at, self.y[0])
            outward = np.array([0.0, 1.0])
            # A level label hangs from its place, an upright one ends there.
            shift = (CAPITALS / 2 * size, reach) if upright else (0.0, reach + ASCENT * size)
            align = 1.0 if upright else 0.5
        else:
            sign = -1.0 if side == "left" else 1.0
            starts = self.points(self.x[0 if side == "left" else 1], at)
            outward = np.array([sign, 0.0])
            shift = (sign * reach, CAPITALS / 2 * size)
            align = 1.0 if side == "left" else 0.0
        self.marks.append(lines(starts, starts + end * outward, style.RULE, TICK_WIDTH))
        for index, ((x, y), label) in enumerate(zip(starts.tolist(), labels, strict=True)):
            self.marks.append(
                Words(
                    x + shift[0],
                    y + shift[1],
                    label,
                    style.SMALL,
                    bold=index == strong,
                    align=align,
                    upright=upright,
                )
            )
