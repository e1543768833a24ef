"""A figure measured in inches from its top left corner, with the header and footer all share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from workers.figures import png, style, words
from workers.figures.canvas import Canvas
from workers.figures.captions import Caption
from workers.figures.labels import label_axis
from workers.figures.scale import Scale

HEADER_HEIGHT = 0.79
FOOTER_HEIGHT = 0.5
LETTER_WIDTH = 0.2
SOFTWARE = "Mambascope"


@dataclass(frozen=True)
class Piece:
    """A word to be drawn with its baseline at (x, y) inches from the page's top left corner."""

    x: float
    y: float
    text: str
    colour: str


class Lettering(Artist):
    """Words in body type, handed to the renderer without the layout of a text artist."""

    def __init__(self, pieces: Sequence[Piece], page_height: float) -> None:
        super().__init__()
        # Above every axes of the page.
        self.set_zorder(3)
        self.pieces = tuple(pieces)
        self.page_height = page_height

    def draw(self, renderer: RendererBase) -> None:
        """Draw every word."""
        face = style.font(style.BODY)
        inch = cast(float, renderer.points_to_pixels(72))
        graphics = renderer.new_gc()
        for piece in self.pieces:
            y = piece.y if renderer.flipy() else self.page_height - piece.y
            graphics.set_foreground(piece.colour)
            renderer.draw_text(graphics, piece.x * inch, y * inch, piece.text, face, 0.0)
        graphics.restore()


@dataclass
class Page:
    """One figure being laid out. Lengths in inches, y downwards from the top edge."""

    caption: Caption
    height: float
    width: float = style.WIDTH
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = Figure(
            figsize=(self.width, self.height),
            dpi=style.DPI,
            facecolor="white",
            layout="none",  # type: ignore[arg-type]
        )
        Canvas(self.figure)
        self._header()
        self._footer()

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Bare axes: no frame, no ticks, no grid."""
        axes = self.figure.add_axes(
            (
                left / self.width,
                1 - (top + height) / self.height,
                width / self.width,
                height / self.height,
            ),
            facecolor="none",
            frameon=False,
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        return axes

    def text(self, x: float, y: float, text: str, size: float, **options: Any) -> Text:
        """A line of text whose baseline starts at (x, y). `$` is a dollar sign, never mathtext."""
        bold = options.pop("bold", False)
        options = {"color": style.INK, "va": "baseline", "ha": "left"} | options
        return self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontproperties=style.font(size, bold),
            parse_math=False,
            usetex=False,
            **options,
        )

    def heading(self, x: float, y: float, letter: str, title: str, *notes: str) -> None:
        """A panel's letter and title, and soft lines below them."""
        indent = LETTER_WIDTH if letter else 0.0
        if letter:
            self.text(x, y, letter, style.HEADING, bold=True)
        self.text(x + indent, y, title, style.HEADING, bold=True)
        for line, note in enumerate(notes):
            self.text(x + indent, y + 0.165 + 0.145 * line, note, style.SMALL, color=style.SOFT_INK)

    def aside(self, right: float, y: float, text: str) -> None:
        """A soft note that ends at `right`."""
        self.text(right, y, text, style.SMALL, color=style.SOFT_INK, ha="right")

    def colour_bar(self, scale: Scale, left: float, top: float, length: float) -> None:
        """An upright colour bar of a scale, its ticks at the right."""
        axes = self.axes(left, top, 0.1, length)
        low = -1.0 if scale.signed else 0.0
        # Drawn in places, not numbers: the ticks carry the scale's bend.
        shares = np.linspace(1.0, low, 256)[:, None]
        flat = Scale(1.0, scale.signed)
        axes.imshow(
            flat.colours(shares), extent=(0, 1, low, 1), aspect="auto", interpolation="nearest"
        )
        ticks = scale.ticks()
        label_axis(axes, "y", ticks.places, ticks.labels, side="right")
        if ticks.factor:
            self.text(left, top - 0.09, ticks.factor, style.SMALL, color=style.SOFT_INK)

    def level_bar(self, scale: Scale, left: float, top: float, length: float) -> None:
        """A level colour bar of a linear scale, its ends and its centre labelled below."""
        axes = self.axes(left, top, length, 0.09)
        low = -1.0 if scale.signed else 0.0
        shares = np.linspace(low, 1.0, 256)[None, :]
        axes.imshow(
            Scale(1.0, scale.signed).colours(shares), aspect="auto", interpolation="nearest"
        )
        low_end, high_end = words.number(low * scale.limit), words.number(scale.limit)
        marks = [(0.0, low_end, "left"), (1.0, high_end, "right")]
        if scale.signed:
            marks.append((0.5, "0", "center"))
        for share, label, side in marks if scale.limit else marks[:1]:
            x = left + share * length
            self.text(x, top + 0.22, label, style.SMALL, color=style.SOFT_INK, ha=side)

    def letter(self, pieces: Sequence[Piece]) -> None:
        """Many short words at once, for a third of the time of as many text artists."""
        self.figure.add_artist(Lettering(pieces, self.height))

    def overlay(self) -> Axes:
        """Axes over the whole page whose data are the page's inches."""
        axes = self.axes(0, 0, self.width, self.height)
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        return axes

    def render(self) -> bytes:
        """The figure as PNG bytes: the same page gives the same bytes."""
        canvas = self.figure.canvas
        assert isinstance(canvas, Canvas)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        return png.encode(pixels, style.DPI, self.caption.metadata | {"Software": SOFTWARE})

    def _header(self) -> None:
        room = self.width - 2 * style.MARGIN
        caption = self.caption
        title_width = words.width(caption.title, style.TITLE, bold=True)
        self.text(style.MARGIN, 0.42, caption.title, style.TITLE, bold=True)
        model = words.readable(caption.model, room - title_width - 0.3, style.SUBTITLE)
        self.text(
            self.width - style.MARGIN, 0.42, model, style.SUBTITLE, color=style.SOFT_INK, ha="right"
        )
        self.text(style.MARGIN, 0.66, caption.explains, style.SUBTITLE)
        self._rule(HEADER_HEIGHT)

    def _footer(self) -> None:
        base = self.height - 0.32
        room = self.width - 2 * style.MARGIN
        job_width = words.width(self.caption.job, style.FOOTER)
        notes = words.readable(self.caption.facts, room - job_width - 0.3, style.FOOTER)
        self._rule(self.height - FOOTER_HEIGHT)
        self.text(style.MARGIN, base, notes, style.FOOTER, color=style.SOFT_INK)
        self.text(
            self.width - style.MARGIN,
            base,
            self.caption.job,
            style.FOOTER,
            color=style.SOFT_INK,
            ha="right",
        )
        choices = words.readable(self.caption.choices, room, style.FOOTER)
        self.text(style.MARGIN, base + 0.15, choices, style.FOOTER, color=style.SOFT_INK)

    def _rule(self, y: float) -> None:
        height = 1 - y / self.height
        margin = style.MARGIN / self.width
        self.figure.add_artist(
            Line2D([margin, 1 - margin], [height, height], color=style.RULE, linewidth=0.6)
        )
