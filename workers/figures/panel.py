"""A rectangle of a page with values along its edges: lines, bars, dots, a picture, ticks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workers.figures import style
from workers.figures.colours import Floats, Rgb
from workers.figures.marks import Box, Mark, Picture, Words, dot, lines

POINT = 1 / 72
TICK, TICK_WIDTH, TICK_PAD = 2.5 * POINT, 0.6, 2.5 * POINT
# Above the baseline, as shares of the type size: capitals and digits, and the tallest letters.
CAPITALS, ASCENT = 0.73, 0.76


@dataclass(frozen=True)
class Panel:
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
        """Fill the panel with cells (rows, columns, 3 or 4), the first row at the top."""
        self.marks.append(Picture(self.box, cells))

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
