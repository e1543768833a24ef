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
from workers.figures.parts import ComparedModel, ComparedText, ComparisonPart
from workers.figures.scale import Scale

# Lengths in inches.
LABEL_WIDTH, CHARACTER = 1.45, 0.092
ROW, BOX_HEIGHT, DESCENT = 0.235, 0.205, 0.062
LINE_GAP, LINE_HEAD, START = 0.2, 0.16, 0.8
CORNER, JOIN = 0.025, 0.006
BAR_LENGTH = 1.4
# Rows of all models that a page shows; a longer text is shown by its most relevant lines.
MOST_ROWS = 48
Line = slice
COLUMNS = int((style.WIDTH - 2 * style.MARGIN - LABEL_WIDTH) / CHARACTER)


@dataclass(frozen=True)
class _Row:
    """One model's tokens with their shares (l,) and the colours of these."""

    model: ComparedModel
    values: Floats
    colours: Rgb


def side_by_side(part: ComparisonPart, text: int, method: Method) -> Page:
    """The text's characters on one grid, a row for each model, a token a box over its characters.

    Raises ValueError: the comparison has no such text, or no model read it by the method.
    """
    found = next((shown for shown in part.texts if shown.text_index == text), None)
    read = [] if found is None else [m for m in found.models if method in m.shares]
    if found is None or not read:
        raise ValueError(f"text {text} was read by no model under {method}")
    shares = [np.array(model.shares[method], dtype=np.float64) for model in read]
    scale = Scale.of(np.concatenate(shares), signed=False, may_bend=False)
    rows = [_Row(m, v, scale.colours(v)) for m, v in zip(read, shares, strict=True)]
    lines = _shown(rows, _broken(found.text))
    pitch = LINE_HEAD + len(rows) * ROW + LINE_GAP
    legend = START + 0.2 * len(rows)
    page = Page(
        _caption(part, found, rows, method, lines),
        height=HEADER_HEIGHT + legend + len(lines) * pitch + FOOTER_HEIGHT,
    )
    _legend(page, rows, scale, captions.METHODS[method].targeted)
    for index, line in enumerate(lines):
        top = HEADER_HEIGHT + legend + index * pitch
        left, note = style.MARGIN + LABEL_WIDTH, f"character {line.start}"
        page.text(left, top + 0.1, note, style.SMALL, style.SOFT_INK)
        for place, row in enumerate(rows):
            _row(page, top + LINE_HEAD + place * ROW, row, found.text, line)
    return page


def _caption(
    part: ComparisonPart,
    text: ComparedText,
    rows: Sequence[_Row],
    method: Method,
    lines: Sequence[Line],
) -> Caption:
    total = len(_broken(text.text))
    shown = "" if len(lines) == total else f"; {len(lines)} of {total} lines, the most relevant"
    return Caption(
        title=f"{captions.METHODS[method].title} · models side by side",
        model=words.several(len(rows), "model"),
        explains=f"each model's own tokens over the same characters{shown}",
        facts=f"text {text.text_index}  ·  {len(text.text)} characters",
        choices="magnitude of each layer's relevance over its sum, mean over the layers read; the "
        "outlined token is the one after which the target is read",
        job=captions.of_job(part.job_id),
    )


def _broken(text: str) -> list[Line]:
    """The text in lines of at most COLUMNS characters, broken at a space where there is one."""
    lines, start = [], 0
    while len(text) - start > COLUMNS:
        space = text.rfind(" ", start + 1, start + COLUMNS + 1)
        stop = space if space > 0 else start + COLUMNS
        lines.append(slice(start, stop))
        # The space itself would indent the next line.
        start = stop + (stop == space)
    return [*lines, slice(start, len(text))]


def _shown(rows: Sequence[_Row], lines: list[Line]) -> list[Line]:
    """The lines to draw: all, or the first, the last and those with the largest relevance."""
    most = max(2, MOST_ROWS // len(rows))
    if len(lines) <= most:
        return lines
    score = np.zeros(len(lines))
    starts = [line.start for line in lines]
    for row in rows:
        at = np.searchsorted(starts, [token.start for token in row.model.tokens], "right") - 1
        np.maximum.at(score, np.clip(at, 0, None), row.values)
    score[[0, -1]] = np.inf
    best: npt.NDArray[np.intp] = np.argsort(-score, kind="stable")[:most]
    return [lines[index] for index in sorted(best.tolist())]


def _legend(page: Page, rows: Sequence[_Row], scale: Scale, targeted: bool) -> None:
    """Every model with its own tokens and, where it counts, its own target; the one colour bar."""
    top = HEADER_HEIGHT + 0.24
    page.heading(style.MARGIN, top, "", "Share of the relevance", "mean over the layers read")
    page.level_bar(scale, page.width - style.MARGIN - BAR_LENGTH, top - 0.06, BAR_LENGTH)
    for index, row in enumerate(rows):
        base = top + 0.2 * (index + 1) + 0.24
        layers = words.several(row.model.layers, "layer")
        what = f"{layers}, {captions.counted(row.model.tokens)}"
        if targeted:
            what += f", explains “{words.readable(row.model.target, 0.8, style.SMALL)}”"
        title = words.readable(row.model.model, 3.2, style.BODY)
        page.text(style.MARGIN, base, title, style.BODY)
        page.text(style.MARGIN + 3.4, base, what, style.SMALL, style.SOFT_INK)


def _row(page: Page, top: float, row: _Row, text: str, line: Line) -> None:
    """One model's tokens on one line of characters."""
    label = words.readable(row.model.model, LABEL_WIDTH - 0.12, style.SMALL)
    base = top + BOX_HEIGHT - DESCENT
    page.text(style.MARGIN, base, label, style.SMALL, style.SOFT_INK)
    for position, token in enumerate(row.model.tokens):
        start, end = max(token.start, line.start), min(token.end, line.stop)
        if end <= start or _repeats(row.model.tokens, position):
            continue
        # A space before a word is part of its token, and still no part of the word to the eye.
        inner = start + (1 if text[start : start + 1].isspace() and end - start > 1 else 0)
        left = style.MARGIN + LABEL_WIDTH + (inner - line.start) * CHARACTER
        room = (end - inner) * CHARACTER
        box = Box(left + JOIN, top, room - 2 * JOIN, BOX_HEIGHT)
        read = _over(row.model.tokens, position, row.model.position)
        edge = (style.INK, 1.3) if read else (style.RULE, 0.4)
        page.add(rounded(box, CORNER, "#" + bytes(row.colours[position]).hex(), *edge))
        shown = words.readable(text[inner:end], room, style.SMALL)
        if words.width(shown, style.SMALL) > room:
            # An escape of a single character that the typeface lacks has no room.
            continue
        middle, ink = box.left + box.width / 2, ink_on(row.colours[position])
        page.text(middle, base, shown, style.SMALL, ink, align="center")


def _repeats(tokens: Sequence[Token], position: int) -> bool:
    """Whether the token lies over the same characters as the one before: bytes of one character."""
    return position > 0 and _over(tokens, position - 1, position)


def _over(tokens: Sequence[Token], one: int, two: int) -> bool:
    """Whether two tokens lie over the same characters, or are the same."""
    return (tokens[one].start, tokens[one].end) == (tokens[two].start, tokens[two].end)
