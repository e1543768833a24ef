"""What a page is made of, in the order in which it is drawn.

Lengths are inches from the page's top left corner, y downwards; type and line widths are points.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.figures import style
from workers.figures.colours import Floats, Rgb

Codes = npt.NDArray[np.uint8]
# Steps of an outline, by the numbers that Agg knows them by.
MOVE, LINE, CURVE, CLOSE = np.uint8(1), np.uint8(2), np.uint8(3), np.uint8(79)


@dataclass(frozen=True)
class Box:
    """A rectangle on the page."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right edge's distance from the page's left."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower edge's distance from the page's top."""
        return self.top + self.height


@dataclass(frozen=True)
class Outline:
    """A path (n, 2) with its steps, stroked (`width` above 0), filled, or both."""

    vertices: Floats
    steps: Codes
    stroke: str = style.INK
    width: float = 0.0
    fill: str | None = None
    # None: lines that are all level or upright fall on whole pixels.
    snap: bool | None = None


@dataclass(frozen=True)
class Picture:
    """Cells (rows, columns, 3 or 4) of sRGB bytes, each a rectangle of one colour.

    A fourth channel is a mask: a cell of alpha 0 is not drawn, any other is opaque.
    """

    box: Box
    cells: Rgb


@dataclass(frozen=True)
class Words:
    """One line of text whose baseline passes through (x, y).

    align: the share of the text that lies before (x, y). upright: it reads from below.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str = style.INK
    bold: bool = False
    align: float = 0.0
    upright: bool = False


Mark = Outline | Picture | Words


def lines(
    starts: Floats, ends: Floats, colour: str, width: float, snap: bool | None = None
) -> Mark:
    """Straight lines between points (n, 2), as one outline."""
    vertices = np.stack([starts, ends], axis=1).reshape(-1, 2)
    return Outline(vertices, np.tile([MOVE, LINE], len(starts)), colour, width, snap=snap)


def rectangles(corners: Floats, colour: str) -> Mark:
    """Filled rectangles (n, 4) of left, top, right and bottom, as one outline."""
    left, top, right, bottom = corners.T
    around = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    vertices = np.stack([np.stack(corner, axis=-1) for corner in around], axis=1).reshape(-1, 2)
    return Outline(vertices, np.tile([MOVE, LINE, LINE, LINE, CLOSE], len(corners)), fill=colour)


def dot(x: float, y: float, diameter: float, fill: str | None, ring: float = 0.0) -> Mark:
    """A circle of `diameter` points, filled, or a white ring of so many points."""
    return _circles(np.array([[x, y]]), diameter, fill, ring)


def dots(centres: Floats, diameter: float, fill: str) -> Mark:
    """Filled circles (n, 2) of `diameter` points, as one outline."""
    return _circles(centres, diameter, fill, 0.0)


def _circles(centres: Floats, diameter: float, fill: str | None, ring: float) -> Mark:
    # Four curves of the second degree through the corners of an octagon's sides.
    angles = np.arange(17) * (np.pi / 8)
    outward = np.where(np.arange(17) % 2, 1 / np.cos(np.pi / 8), 1.0)
    reach = outward * diameter / (2 * style.POINTS_PER_INCH)
    around = np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)
    vertices = (centres[:, None] + around).reshape(-1, 2)
    steps = np.tile([MOVE] + [CURVE] * 16, len(centres))
    return Outline(vertices, steps, "#ffffff", ring, fill, snap=False)


# A box with round corners: one straight side and one quarter turn at a time, from the left of the
# upper side; each row says from which corner and how far in along x and y, in units of the corner.
_AROUND = (
    ((0, 0), (1, 0)), ((1, 0), (-1, 0)), ((1, 0), (0, 0)), ((1, 0), (0, 1)),
    ((1, 1), (0, -1)), ((1, 1), (0, 0)), ((1, 1), (-1, 0)),
    ((0, 1), (1, 0)), ((0, 1), (0, 0)), ((0, 1), (0, -1)),
    ((0, 0), (0, 1)), ((0, 0), (0, 0)), ((0, 0), (1, 0)),
)  # fmt: skip
_TURN = [CURVE, CURVE]
_ROUNDED = np.array([MOVE, LINE, *_TURN, LINE, *_TURN, LINE, *_TURN, LINE, *_TURN])


def rounded(box: Box, corner: float, fill: str, stroke: str, width: float) -> Mark:
    """A filled box whose corners are round over `corner` inches, its edge `width` points wide."""
    vertices = [
        (
            box.left + x * box.width + corner * inward_x,
            box.top + y * box.height + corner * inward_y,
        )
        for (x, y), (inward_x, inward_y) in _AROUND
    ]
    return Outline(np.array(vertices), _ROUNDED, stroke, width, fill)
