"""What a reader would see of a page: the places of its texts, in pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from workers.figures import style
from workers.figures.page import Lettering, Page

HOSTILE = [
    "\n", "\t", " $x_1$", "\x07\x1b", "\u202e", "中国", " שלום", "العربية", "😀", "❤️", "\u0301",
    "a\u0301", "   ", "$", "\\", "x" * 400, " " + "ab" * 30, "", "\u200b", "\ufffd", "\ue000",
    "🏳️‍🌈", " end ", "<|endoftext|>", "_", "^{2}", "\ud800", "ﷺ", "%s", "{}", " ", "\\frac{1}{2}",
]  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """Texts with their boxes (n, 4): x0, y0, x1, y1."""

    strings: list[str]
    boxes: npt.NDArray[np.float64]

    def touching(self) -> list[tuple[str, str]]:
        """Pairs of texts that overlap by more than a pixel."""
        x0, y0, x1, y1 = self.boxes.T
        wide = np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)
        high = np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)
        pairs = np.argwhere(np.triu((wide > 1) & (high > 1), 1))
        return [(self.strings[i], self.strings[j]) for i, j in pairs]

    def outside(self, page: Page) -> list[str]:
        """Texts that leave the page."""
        limits = np.array([0, 0, page.width * style.DPI, page.height * style.DPI])
        x0, y0, x1, y1 = self.boxes.T
        left = (x0 < 0) | (y0 < 0) | (x1 > limits[2]) | (y1 > limits[3])
        return [self.strings[i] for i in np.flatnonzero(left)]


def look(page: Page) -> Seen:
    """Draw a page and measure all its texts with the renderer."""
    canvas = page.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [t for t in page.figure.findobj(Text) if t.get_visible() and t.get_text()]
    boxes = [list(t.get_window_extent(renderer).extents) for t in texts]
    strings = [t.get_text() for t in texts]
    for lettering in page.figure.findobj(Lettering):
        for piece in lettering.pieces:
            width, height, descent = renderer.get_text_width_height_descent(
                piece.text, style.font(style.BODY), False
            )
            left = piece.x * style.DPI
            low = (page.height - piece.y) * style.DPI - descent
            boxes.append([left, low, left + width, low + height])
            strings.append(piece.text)
    return Seen(strings, np.array(boxes))
