"""One text under every model: the same characters above each other, coloured by relevance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.names import Method
from schemas.result import Token
from workers.figures import captions, style, words
from workers.figures.captions import Caption
from workers.figures.colours import Floats, Rgb, ink_on
from workers.figures.marks import Box, rounded
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.plan import ComparedModel, ComparedText, ComparisonPart
from workers.figures.scale import Scale

# Lengths in inches.
LABEL_WIDTH, CHARACTER = 1.45, 0.092
ROW, BOX_HEIGHT, DESCENT = 0.235, 0.205, 0.062
LINE_GAP, LINE_HEAD, START = 0.2, 0.16, 0.5
CORNER, INSET, JOIN = 0.025, 0.02, 0.006
BAR_LENGTH = 0.9
# Rows of all models that a page shows; a longer text is shown by its most relevant lines.
MOST_ROWS = 48
COLUMNS = int((style.WIDTH - 2 * style.MARGIN - LABEL_WIDTH) / CHARACTER)


@dataclass(frozen=True)
class _Row:
    """One model's tokens with their colours; values (l,) are what the colours show."""

    model: ComparedModel
    values: Floats
    scale: Scale

    @classmethod
    def of(cls, model: ComparedModel, method: Method) -> "_Row":
        signed = model.signed.get(method)
        values = np.array(signed or model.relevance[method], dtype=np.float64)
        is_signed = None if signed is None else True
        return cls(model, values, Scale.of(values, is_signed, may_bend=False))

    @property
    def colours(self) -> Rgb:
        return self.scale.colours(self.values)


def side_by_side(part: ComparisonPart, text: int, method: Method) -> Page:
    """The text's characters on one grid, a row for each model, a token a box over its characters.

    Each model has its own colour scale. Raises ValueError: the comparison has no such text, or no
    model read it by the method.
    """
    found = next((shown for shown in part.texts if shown.text_index == text), None)
    rows = [] if found is None else [_Row.of(m, method) for m in found.models if method in m.layers]
    if found is None or not rows:
        raise ValueError(f"text {text} was read by no model under {method}")
    lines = _shown(rows, len(found.text))
    pitch = LINE_HEAD + len(rows) * ROW + LINE_GAP
    legend = START + 0.2 * len(rows)
    page = Page(
        _caption(part, found, rows, method, lines),
        height=HEADER_HEIGHT + legend + len(lines) * pitch + FOOTER_HEIGHT,
    )
    _legend(page, rows, method)
    for index, line in enumerate(lines):
        top = HEADER_HEIGHT + legend + index * pitch
        page.text(
            style.MARGIN + LABEL_WIDTH,
            top + 0.1,
            f"character {line * COLUMNS}",
            style.SMALL,
            style.SOFT_INK,
        )
        for place, row in enumerate(rows):
            _row(page, top + LINE_HEAD + place * ROW, row, found.text, line)
    return page


def _caption(
    part: ComparisonPart,
    text: ComparedText,
    rows: Sequence[_Row],
    method: Method,
    lines: Sequence[int],
) -> Caption:
    total = -(-len(text.text) // COLUMNS)
    shown = "" if len(lines) == total else f"; {len(lines)} of {total} lines, the most relevant"
    return Caption(
        title=f"{captions.METHODS[method].title} · models side by side",
        model=f"{len(rows)} models",
        explains=f"each model's own tokens over the same characters{shown}",
        facts=f"text {text.text_index}  ·  {len(text.text)} characters",
        choices="each model's highest analysed layer, on its own colour scale; the outlined token "
        "is the one after which the target is read",
        job=f"job {words.readable(part.job_id, 2.6, style.FOOTER)}",
    )


def _shown(rows: Sequence[_Row], characters: int) -> list[int]:
    """The lines to draw: all, or the first, the last and those with the largest relevance."""
    total = max(1, -(-characters // COLUMNS))
    most = max(2, MOST_ROWS // len(rows))
    if total <= most:
        return list(range(total))
    score = np.zeros(total)
    for row in rows:
        size = np.abs(row.scale.place(row.values))
        lines = np.array([token.start // COLUMNS for token in row.model.tokens])
        np.maximum.at(score, np.clip(lines, 0, total - 1), size)
    score[[0, -1]] = np.inf
    best: npt.NDArray[np.intp] = np.argsort(-score, kind="stable")[:most]
    return sorted(best.tolist())


def _legend(page: Page, rows: Sequence[_Row], method: Method) -> None:
    """Every model with its layer, its own number of tokens and its colour bar."""
    name = captions.METHODS[method]
    signed = all(method in row.model.signed for row in rows)
    page.heading(style.MARGIN, HEADER_HEIGHT + 0.24, "", name.signed if signed else name.relevance)
    for index, row in enumerate(rows):
        base = HEADER_HEIGHT + 0.24 + 0.2 * (index + 1)
        what = f"layer {row.model.layers[method]}, {len(row.model.tokens)} tokens"
        title = words.readable(row.model.model, 3.2, style.BODY)
        page.text(style.MARGIN, base, title, style.BODY)
        page.text(style.MARGIN + 3.4, base, what, style.SMALL, style.SOFT_INK)
        left = page.width - style.MARGIN - BAR_LENGTH - 0.6
        low = words.number(row.scale.lowest * row.scale.limit)
        page.text(left - 0.08, base, low, style.SMALL, style.SOFT_INK, align="right")
        box = Box(left, base - 0.085, BAR_LENGTH, 0.09)
        page.frame(box, (0, 1), (0, 1)).picture(row.scale.ramp()[None])
        high = words.number(row.scale.limit)
        page.text(left + BAR_LENGTH + 0.08, base, high, style.SMALL, style.SOFT_INK)


def _row(page: Page, top: float, row: _Row, text: str, line: int) -> None:
    """One model's tokens on one line of characters."""
    label = words.readable(row.model.model, LABEL_WIDTH - 0.12, style.SMALL)
    base = top + BOX_HEIGHT - DESCENT
    page.text(style.MARGIN, base, label, style.SMALL, style.SOFT_INK)
    first, last = line * COLUMNS, (line + 1) * COLUMNS
    colours = row.colours
    for position, token in enumerate(row.model.tokens):
        start, end = max(token.start, first), min(token.end, last)
        if end <= start or _repeats(row.model.tokens, position):
            continue
        # A space before a word is part of its token, and still no part of the word to the eye.
        inner = start + (1 if text[start : start + 1].isspace() and end - start > 1 else 0)
        left = style.MARGIN + LABEL_WIDTH + (inner - first) * CHARACTER
        box = Box(left + JOIN, top, (end - inner) * CHARACTER - 2 * JOIN, BOX_HEIGHT)
        edge = (style.INK, 1.3) if position == row.model.position else (style.RULE, 0.4)
        page.add(rounded(box, CORNER, "#" + bytes(colours[position]).hex(), *edge))
        shown = words.readable(text[inner:end], box.width - INSET, style.SMALL)
        middle, ink = box.left + box.width / 2, ink_on(colours[position])
        page.text(middle, base, shown, style.SMALL, ink, align="center")


def _repeats(tokens: Sequence[Token], position: int) -> bool:
    """Whether the token lies over the same characters as the one before: bytes of one character."""
    before, token = tokens[position - 1], tokens[position]
    return position > 0 and (before.start, before.end) == (token.start, token.end)
