"""Marks to pixels, by Agg.

matplotlib's artists are for plots that somebody changes: an axis with its ticks is a hundred
objects that watch each other. Pages are laid out beforehand and drawn once, so their marks go
straight to the renderer beneath.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from workers.figures import lettering, style
from workers.figures.colours import Rgb
from workers.figures.marks import Mark, Outline, Picture, Words

# No opaque colour.
_NOTHING = np.uint32(0)


class Canvas:
    """A white page of `width` x `height` inches."""

    def __init__(self, width: float, height: float) -> None:
        self._size = int(width * style.DPI), int(height * style.DPI)
        self._agg: Any = RendererAgg(*self._size, style.DPI)._renderer  # type: ignore[no-untyped-call]
        self._to_pixels = Affine2D().scale(style.DPI, -style.DPI).translate(0, self._size[1])
        self.pixels[...] = 255

    @property
    def pixels(self) -> Rgb:
        """(height, width, 4) sRGB bytes; a view, which shows what is drawn."""
        pixels: Rgb = np.asarray(self._agg)
        return pixels

    def draw(self, mark: Mark) -> None:
        """Draw a mark over those before it."""
        match mark:
            case Outline():
                self._outline(mark)
            case Picture():
                self._picture(mark)
            case Words():
                self._words(mark)

    def _outline(self, mark: Outline) -> None:
        if not len(mark.vertices):
            return
        path = Path(mark.vertices, mark.steps)
        # A user's matplotlib settings choose it otherwise.
        path.should_simplify = False
        graphics = _graphics(mark.stroke)
        graphics.set_linewidth(mark.width)
        graphics.set_snap(mark.snap)
        fill = None if mark.fill is None else to_rgba(mark.fill)
        self._agg.draw_path(graphics, path, self._to_pixels, fill)

    def _picture(self, mark: Picture) -> None:
        """Cells as rectangles of whole pixels."""
        box, (rows, columns) = mark.box, mark.cells.shape[:2]
        left, top = round(box.left * style.DPI), round(box.top * style.DPI)
        right, bottom = round(box.right * style.DPI), round(box.bottom * style.DPI)
        across = (np.arange(right - left) + 0.5) * columns / (right - left)
        down = (np.arange(bottom - top) + 0.5) * rows / (bottom - top)
        # A pixel's four bytes as one number: gathered in a tenth of the time.
        found = _whole(mark.cells)[down.astype(np.intp)][:, across.astype(np.intp)]
        covered = self.pixels.view(np.uint32)[top:bottom, left:right, 0]
        np.copyto(covered, found, where=found != _NOTHING)

    def _words(self, mark: Words) -> None:
        stamp = lettering.stamp(mark.text, mark.size, mark.bold)
        x, y, before = mark.x * style.DPI, mark.y * style.DPI, mark.align * stamp.width * style.DPI
        # Agg's corner of a text, about which it turns, is the pixel below its first.
        if mark.upright:
            x, y, angle = x + stamp.down + 1, y + before - stamp.left, 90.0
        else:
            x, y, angle = x - before + stamp.left, y + stamp.down + 1, 0.0
        at = round(x), round(y)
        self._agg.draw_text_image(stamp.image, *at, angle, _graphics(mark.colour))


def _whole(cells: Rgb) -> npt.NDArray[np.uint32]:
    """(rows, columns, 3 or 4) bytes -> (rows, columns), four bytes each; `_NOTHING` at alpha 0."""
    whole = np.full((*cells.shape[:2], 4), 255, np.uint8)
    whole[..., : cells.shape[2]] = cells
    numbers: npt.NDArray[np.uint32] = whole.view(np.uint32)[..., 0]
    numbers[whole[..., 3] == 0] = _NOTHING
    return numbers


def _graphics(colour: str) -> GraphicsContextBase:
    graphics = GraphicsContextBase()
    graphics.set_foreground(to_rgba(colour), isRGBA=True)
    return graphics
