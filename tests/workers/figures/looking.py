"""What a reader would see of a page: the places of its texts, in inches."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.figures import lettering, style
from workers.figures.marks import CURVE, Outline, Words
from workers.figures.page import Page

Floats = npt.NDArray[np.float64]
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
        pixel = 1 / style.DPI
        x0, y0, x1, y1 = self.boxes.T
        wide = np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)
        high = np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)
        pairs = np.argwhere(np.triu((wide > pixel) & (high > pixel), 1))
        return [(self.strings[i], self.strings[j]) for i, j in pairs]

    def outside(self, page: Page) -> list[str]:
        """Texts that leave the page."""
        x0, y0, x1, y1 = self.boxes.T
        left = (x0 < 0) | (y0 < 0) | (x1 > page.width) | (y1 > page.height)
        return [self.strings[i] for i in np.flatnonzero(left)]


def look(page: Page) -> Seen:
    """Draw a page and measure all its texts."""
    page.render()
    texts = [mark for mark in page.marks if isinstance(mark, Words) and mark.text]
    return Seen([text.text for text in texts], np.array([_box(text) for text in texts]))


def legible(page: Page) -> None:
    """Fail if texts touch each other or leave the page."""
    seen = look(page)
    assert seen.touching() == []
    assert seen.outside(page) == []


def words_of(page: Page) -> list[Words]:
    """Its texts, in the order in which they are drawn."""
    return [mark for mark in page.marks if isinstance(mark, Words)]


def boxes(page: Page, colour: str) -> list[Floats]:
    """The filled rectangles of a colour, an array (n, 4) of left, top, right, bottom an outline."""
    found = [
        mark.vertices.reshape(-1, 5, 2)
        for mark in page.marks
        if isinstance(mark, Outline) and mark.fill == colour and CURVE not in mark.steps
    ]
    return [np.hstack([corners.min(axis=1), corners.max(axis=1)]) for corners in found]


def dots_of(page: Page, colour: str) -> list[Floats]:
    """The centres (n, 2) of the dots of a colour, an outline each."""
    return [
        mark.vertices.reshape(-1, 17, 2)[:, :16].mean(axis=1)
        for mark in page.marks
        if isinstance(mark, Outline) and mark.fill == colour and CURVE in mark.steps
    ]


def measured(text: str, size: float, bold: bool) -> tuple[float, float, float]:
    """Inches that a text takes along its baseline, and that its ink reaches above and below it."""
    stamp = lettering.stamp(text, size, bold)
    inked = np.flatnonzero(stamp.image.any(axis=1))
    below = stamp.down - (len(stamp.image) - 1 - inked[-1])
    above = inked[-1] + 1 - inked[0] - below
    return stamp.width, above / style.DPI, below / style.DPI


def _box(text: Words) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is drawn."""
    width, above, descent = measured(text.text, text.size, text.bold)
    before = text.align * width
    if text.upright:
        below = text.y + before
        return text.x - above, below - width, text.x + descent, below
    left = text.x - before
    return left, text.y - above, left + width, text.y + descent
