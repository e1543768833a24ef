"""Shapes of words, kept.

matplotlib lays a text out and renders its glyphs one by one each time it is drawn, which would be
most of the time of a page; and pages share most of their words. Here a text is rendered once, at
whole pixels.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from matplotlib.font_manager import get_font
from matplotlib.ft2font import FT2Font, LoadFlags

from workers.figures import style

# Texts kept; some kilobytes each.
_MOST_KEPT = 2048


@lru_cache(maxsize=_MOST_KEPT)
def extent(text: str, size: float, bold: bool) -> tuple[float, float, float]:
    """Width, height and descent in inches, as drawn."""
    font = _set(text, size, bold)
    width, height = font.get_width_height()
    unit = 64 * style.DPI
    return width / unit, height / unit, font.get_descent() / unit


@lru_cache(maxsize=_MOST_KEPT)
def stamp(text: str, size: float, bold: bool) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Coverage (height, width) of a level text; its lower left corner from its start, in pixels."""
    font = _set(text, size, bold)
    font.draw_glyphs_to_bitmap(antialiased=True)
    left, up = font.get_bitmap_offset()
    return font.get_image().copy(), left / 64, (up + font.get_descent()) / 64


def _set(text: str, size: float, bold: bool) -> FT2Font:
    font = get_font(style.BOLD_FILE if bold else style.REGULAR_FILE)
    font.set_size(size, style.DPI)
    font.set_text(text, 0.0, flags=LoadFlags.DEFAULT)
    return font
