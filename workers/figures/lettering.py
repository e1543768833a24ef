"""Shapes of words, kept.

matplotlib lays a text out and renders its glyphs one by one each time it is drawn, which would be
most of the time of a page; and pages share most of their words. Here a text is rendered once, at
whole pixels.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.font_manager import get_font
from matplotlib.ft2font import FT2Font, LoadFlags

from workers.figures import style

# Texts kept; some kilobytes each.
_MOST_KEPT = 2048


class Stamp(NamedTuple):
    """A level line of text as it is drawn.

    image: coverage in bytes (height, width). left, down: pixels from the start of the text's
    baseline to the image's lower left corner. width: inches that the text takes.
    """

    image: npt.NDArray[np.uint8]
    left: float
    down: float
    width: float


@lru_cache(maxsize=_MOST_KEPT)
def stamp(text: str, size: float, bold: bool) -> Stamp:
    """The stamp of `text` at `size` points; the same one each time, so it must not be changed."""
    font = _set(text, size, bold)
    width, _ = font.get_width_height()
    font.draw_glyphs_to_bitmap(antialiased=True)
    left, up = font.get_bitmap_offset()
    return Stamp(
        image=font.get_image().copy(),
        left=left / 64,
        down=(up + font.get_descent()) / 64,
        width=width / (64 * style.DPI),
    )


def _set(text: str, size: float, bold: bool) -> FT2Font:
    font = get_font(style.BOLD_FILE if bold else style.REGULAR_FILE)
    font.set_size(size, style.DPI)
    font.set_text(text, 0.0, flags=LoadFlags.DEFAULT)
    return font
