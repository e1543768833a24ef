"""What the colours of a page mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.figures import style, words
from workers.figures.marks import lines, rectangles
from workers.figures.page import Page

# Lengths in inches.
ROW, LABEL_ROOM = 0.2, 4.0
SIDE, CLOSE, APART = 0.1, 0.05, 0.12


@dataclass(frozen=True)
class Entry:
    """A line of a legend: its colour, what has that colour, and a note about it."""

    colour: str
    label: str
    note: str = ""


def rows(page: Page, y: float, entries: Sequence[Entry]) -> None:
    """A row for each colour; the first one's baseline is at y."""
    for index, entry in enumerate(entries):
        base = y + ROW * index
        ends = np.array([[style.MARGIN, base - 0.04], [style.MARGIN + 0.3, base - 0.04]])
        page.add(lines(ends[:1], ends[1:], entry.colour, 2.0))
        label = words.readable(entry.label, LABEL_ROOM, style.BODY)
        page.text(style.MARGIN + 0.4, base, label, style.BODY)
        page.aside(page.width - style.MARGIN, base, entry.note)


def swatches(page: Page, right: float, y: float, entries: Sequence[Entry]) -> None:
    """The entries on one line that ends at `right`, each after a square of its colour."""
    for entry in reversed(entries):
        page.aside(right, y, entry.label)
        right -= words.width(entry.label, style.SMALL) + CLOSE
        square = [[right - SIDE, y - 0.085, right, y - 0.085 + SIDE]]
        page.add(rectangles(np.array(square), entry.colour))
        right -= SIDE + APART
