"""An Agg canvas that keeps the shapes of its words.

matplotlib lays a text out and renders its glyphs one by one each time it is drawn, which is most of
the time of a page; and pages share most of their words. Here a text is rendered once, at whole
pixels, and stamped from then on.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

# Texts kept; some kilobytes each.
MOST_KEPT = 2048
HINTING = LoadFlags.DEFAULT


@lru_cache(maxsize=MOST_KEPT)
def _measured(text: str, file: str, size: float, dpi: float) -> tuple[float, float, float]:
    """Width, height and descent in pixels."""
    font = _set(text, file, size, dpi)
    width, height = font.get_width_height()
    return width / 64, height / 64, font.get_descent() / 64


@lru_cache(maxsize=MOST_KEPT)
def _stamp(
    text: str, file: str, size: float, dpi: float
) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Coverage (height, width) of a level text, and its lower left corner from its start."""
    font = _set(text, file, size, dpi)
    font.draw_glyphs_to_bitmap(antialiased=True)
    left, up = font.get_bitmap_offset()
    return font.get_image().copy(), left / 64, (up + font.get_descent()) / 64


def _set(text: str, file: str, size: float, dpi: float) -> FT2Font:
    font = get_font(file)
    font.set_size(size, dpi)
    font.set_text(text, 0.0, flags=HINTING)
    return font


class Renderer(RendererAgg):
    """Draws text from kept stamps; everything else as Agg does."""

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        """Draw a text whose baseline starts at (x, y)."""
        stamp, left, down = _stamp(s, str(prop.get_file()), prop.get_size_in_points(), self.dpi)
        turned = math.radians(angle)
        x += left + down * math.sin(turned)
        y += down * math.cos(turned)
        self._renderer.draw_text_image(stamp, round(x), round(y) + 1, angle, gc)

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        """Width, height and descent of a text in pixels."""
        return _measured(s, str(prop.get_file()), prop.get_size_in_points(), self.dpi)


class Canvas(FigureCanvasAgg):
    """A canvas with such a renderer."""

    def get_renderer(self) -> Renderer:
        """A new renderer of the figure's size."""
        width, height = self.get_width_height(physical=True)
        return Renderer(width, height, self.figure.dpi)  # type: ignore[no-untyped-call]
