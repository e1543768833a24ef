"""A figure measured in inches from its top left corner, with the header and footer all share."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from workers.figures import png, style, words
from workers.figures.canvas import Canvas
from workers.figures.captions import Caption
from workers.figures.frame import Frame
from workers.figures.marks import Box, Mark, Picture, Words, lines
from workers.figures.scale import Scale

HEADER_HEIGHT = 0.79
FOOTER_HEIGHT = 0.5
LETTER_WIDTH = 0.2
SOFTWARE = "Mambascope"
Align = Literal["left", "center", "right"]
_BEFORE: dict[Align, float] = {"left": 0.0, "center": 0.5, "right": 1.0}


@dataclass
class Page:
    """One figure being laid out. Lengths in inches, y downwards from the top edge."""

    caption: Caption
    height: float
    width: float = style.WIDTH
    marks: list[Mark] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._header()
        self._footer()

    def add(self, mark: Mark) -> None:
        """Draw a mark over those before it."""
        self.marks.append(mark)

    def frame(self, box: Box, x: tuple[float, float], y: tuple[float, float]) -> Frame:
        """A part of the page with values along its edges: left and right, lower and upper."""
        return Frame(self.marks, box, x, y)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str = style.INK,
        bold: bool = False,
        align: Align = "left",
    ) -> None:
        """A line of text whose baseline starts, is centred or ends at (x, y)."""
        self.add(Words(x, y, text, size, colour, bold, _BEFORE[align]))

    def heading(self, x: float, y: float, letter: str, title: str, *notes: str) -> None:
        """A panel's letter and title, and soft lines below them."""
        indent = LETTER_WIDTH if letter else 0.0
        if letter:
            self.text(x, y, letter, style.HEADING, bold=True)
        self.text(x + indent, y, title, style.HEADING, bold=True)
        for line, note in enumerate(notes):
            self.text(x + indent, y + 0.165 + 0.145 * line, note, style.SMALL, style.SOFT_INK)

    def aside(self, right: float, y: float, text: str) -> None:
        """A soft note that ends at `right`."""
        self.text(right, y, text, style.SMALL, style.SOFT_INK, align="right")

    def axis_title(self, box: Box, text: str) -> None:
        """What lies along a box's lower edge, below the labels of its ticks."""
        x, y = box.left + box.width / 2, box.bottom + 0.36
        self.text(x, y, text, style.SMALL, style.SOFT_INK, align="center")

    def colour_bar(self, scale: Scale, left: float, top: float, length: float) -> None:
        """An upright colour bar of a scale, its ticks at the right."""
        frame = self.frame(Box(left, top, 0.1, length), (0, 1), (scale.lowest, 1))
        # Drawn in places, not numbers: the ticks carry the scale's bend.
        frame.picture(scale.ramp()[::-1, None])
        ticks = scale.ticks()
        frame.ticks("right", ticks.places, ticks.labels)
        if ticks.factor:
            self.text(left, top - 0.09, ticks.factor, style.SMALL, style.SOFT_INK)

    def level_bar(self, scale: Scale, left: float, top: float, length: float) -> None:
        """A level colour bar of a linear scale, its ends and its centre labelled below."""
        self.add(Picture(Box(left, top, length, 0.09), scale.ramp()[None]))
        low_end, high_end = words.number(scale.lowest * scale.limit), words.number(scale.limit)
        ends: list[tuple[float, str, Align]] = [(0.0, low_end, "left"), (1.0, high_end, "right")]
        if scale.signed:
            ends.append((0.5, "0", "center"))
        for share, label, side in ends if scale.limit else ends[:1]:
            x = left + share * length
            self.text(x, top + 0.22, label, style.SMALL, style.SOFT_INK, align=side)

    def render(self) -> bytes:
        """The figure as PNG bytes: the same page gives the same bytes."""
        canvas = Canvas(self.width, self.height)
        for mark in self.marks:
            canvas.draw(mark)
        return png.encode(canvas.pixels, style.DPI, self.caption.metadata | {"Software": SOFTWARE})

    def _header(self) -> None:
        room = self.width - 2 * style.MARGIN
        caption = self.caption
        title_width = words.width(caption.title, style.TITLE, bold=True)
        self.text(style.MARGIN, 0.42, caption.title, style.TITLE, bold=True)
        model = words.readable(caption.model, room - title_width - 0.3, style.SUBTITLE)
        self.text(
            self.width - style.MARGIN, 0.42, model, style.SUBTITLE, style.SOFT_INK, align="right"
        )
        self.text(style.MARGIN, 0.66, caption.explains, style.SUBTITLE)
        self._rule(HEADER_HEIGHT)

    def _footer(self) -> None:
        base = self.height - 0.32
        room = self.width - 2 * style.MARGIN
        job_width = words.width(self.caption.job, style.FOOTER)
        notes = words.readable(self.caption.facts, room - job_width - 0.3, style.FOOTER)
        self._rule(self.height - FOOTER_HEIGHT)
        self.text(style.MARGIN, base, notes, style.FOOTER, style.SOFT_INK)
        self.text(
            self.width - style.MARGIN,
            base,
            self.caption.job,
            style.FOOTER,
            style.SOFT_INK,
            align="right",
        )
        choices = words.readable(self.caption.choices, room, style.FOOTER)
        self.text(style.MARGIN, base + 0.15, choices, style.FOOTER, style.SOFT_INK)

    def _rule(self, y: float) -> None:
        ends = np.array([[style.MARGIN, y], [self.width - style.MARGIN, y]])
        self.add(lines(ends[:1], ends[1:], style.RULE, 0.6))
