"""The text's own tokens as coloured words, one group of lines per method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.names import Method
from schemas.result import MethodAttention, Token
from workers.figures import captions, style, words
from workers.figures.colours import Floats, ink_on
from workers.figures.marks import Box, rounded
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import TextPart
from workers.figures.scale import Scale

# Words are what a strip's time goes into: this many in all, shared out between the methods.
MOST_WORDS = 264
# Tokens shown on either side of a relevant one.
NEIGHBOURS = 4
# A note on left-out tokens takes as much room as this many of them.
SMALL_GAP = 2
# Lengths in inches.
PITCH, BOX_HEIGHT, DESCENT = 0.26, 0.215, 0.066
PADDING, SPACE, JOIN, CORNER = 0.05, 0.055, 0.012, 0.03
LONGEST_WORD = 2.2
GROUP_HEAD, GROUP_GAP = 0.5, 0.2
BAR_LENGTH = 1.4

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Word:
    """A box on a line: a token, or (position None) a note on tokens left out."""

    position: int | None
    text: str
    line: int
    left: float
    width: float


def token_strip(part: TextPart, layer: int) -> Page:
    """The tokens coloured by relevance, each method on its own scale, at one layer.

    A long text is shown in windows: the tokens most relevant under any of the methods with
    NEIGHBOURS tokens on either side, both ends always among them; a note in each gap says how many
    tokens it leaves out and where the text goes on, and the top line how many are shown.

    Raises KeyError: the result has no such layer.
    """
    result = part.result
    analysed = result.attention_analysis[layer]
    shown = _shown(list(analysed.methods.values()), result.target.position)
    laid_out = _lay_out(result.tokens, shown)
    depth = (max(word.line for word in laid_out) + 1) * PITCH
    group = GROUP_HEAD + depth + GROUP_GAP
    start = HEADER_HEIGHT + (0.35 if shown.all() else 0.55)
    page = Page(
        captions.caption(
            part,
            list(analysed.methods),
            f"Tokens by relevance · layer {layer}",
            [f"{analysed.mixer} mixer", captions.rebuilt(analysed.reconstruction_error)],
            "each method has its own colour scale; the outlined token is the one after which the "
            "target is read",
        ),
        height=start + group * len(analysed.methods) + FOOTER_HEIGHT,
    )
    if not shown.all():
        note = (
            f"{shown.sum()} of {len(shown)} tokens: the most relevant under any method with "
            f"{NEIGHBOURS} neighbours each, and both ends; “… n … p:” leaves out n and goes on at p"
        )
        page.text(style.MARGIN, HEADER_HEIGHT + 0.2, note, style.SMALL, style.SOFT_INK)
    for index, (method, attention) in enumerate(analysed.methods.items()):
        _group(page, start + index * group, laid_out, method, attention, result.target.position)
    return page


def _coloured(attention: MethodAttention) -> tuple[Floats, Scale]:
    """What a method's words are coloured by: the signed effect where there is one."""
    if attention.signed_relevance is None:
        values = np.array(attention.token_relevance, dtype=np.float64)
        return values, Scale.of(values, may_bend=False)
    values = np.array(attention.signed_relevance, dtype=np.float64)
    return values, Scale.of(values, signed=True, may_bend=False)


def _shown(methods: Sequence[MethodAttention], target: int) -> Mask:
    """(l,) which tokens to show: all, or windows about the most relevant ones and the ends."""
    score = np.max([np.abs(scale.place(v)) for v, scale in map(_coloured, methods)], axis=0)
    length = len(score)
    most = MOST_WORDS // len(methods)
    if length <= most:
        return np.ones(length, dtype=np.bool_)
    shown = np.zeros(length, dtype=np.bool_)
    for centre in [0, target, length - 1, *np.argsort(-score, kind="stable")]:
        wider = shown.copy()
        wider[max(0, centre - NEIGHBOURS) : centre + NEIGHBOURS + 1] = True
        if wider.sum() > most:
            break
        shown = wider
    return _without_small_gaps(shown)


def _without_small_gaps(shown: Mask) -> Mask:
    """Gaps that a note would not shorten are shown after all."""
    edges = np.flatnonzero(np.diff(shown.astype(np.int8)))
    filled = shown.copy()
    for before, last in zip(edges[0::2], edges[1::2], strict=True):
        if last - before <= SMALL_GAP:
            filled[before + 1 : last + 1] = True
    return filled


def _lay_out(tokens: Sequence[Token], shown: Mask) -> list[Word]:
    """Words in lines between the margins; parts of one word stand close together."""
    right = style.WIDTH - style.MARGIN
    line, x = 0, style.MARGIN
    placed: list[Word] = []
    for position, text, joined in _words(tokens, shown):
        width = max(words.width(text, style.BODY) + 2 * PADDING, 0.16)
        if placed:
            x += JOIN if joined else SPACE
        if x + width > right and placed:
            line, x = line + 1, style.MARGIN
        placed.append(Word(position, text, line, x, width))
        x += width
    return placed


def _words(tokens: Sequence[Token], shown: Mask) -> Iterator[tuple[int | None, str, bool]]:
    """Position, drawable text, and whether it continues the word before it."""
    last = -1
    for position in np.flatnonzero(shown).tolist():
        left_out = position - last - 1
        last = position
        if left_out:
            yield None, f"… {left_out} … {position}:", False
        token = tokens[position]
        before = tokens[position - 1] if position else None
        joined = before is not None and not left_out and before.end >= token.start
        starts_word = token.text[:1].isspace() or (
            before is not None and before.text[-1:].isspace()
        )
        text = words.readable(token.text, LONGEST_WORD, style.BODY)
        yield position, text, joined and not starts_word


def _group(
    page: Page,
    top: float,
    laid_out: Sequence[Word],
    method: Method,
    attention: MethodAttention,
    target: int,
) -> None:
    name = captions.METHODS[method]
    values, scale = _coloured(attention)
    unit = name.relevance if attention.signed_relevance is None else name.signed
    title = name.title if attention.signed_relevance is None else f"{name.title}, signed"
    page.heading(style.MARGIN, top, "", title, unit)
    page.level_bar(scale, page.width - style.MARGIN - BAR_LENGTH, top - 0.06, BAR_LENGTH)
    fills = scale.colours(values)
    first = top + GROUP_HEAD - PITCH
    for word in laid_out:
        base = first + (word.line + 1) * PITCH - (PITCH - BOX_HEIGHT) / 2 - DESCENT
        ink = style.SOFT_INK
        if word.position is not None:
            fill, ink = fills[word.position], ink_on(fills[word.position])
            top = first + word.line * PITCH + (PITCH - BOX_HEIGHT) / 2
            box = Box(word.left, top, word.width, BOX_HEIGHT)
            edge = (style.INK, 1.3) if word.position == target else (style.RULE, 0.4)
            page.add(rounded(box, CORNER, "#" + bytes(fill).hex(), *edge))
        middle = word.left + word.width / 2
        page.text(middle, base, word.text, style.BODY, ink, align="center")
