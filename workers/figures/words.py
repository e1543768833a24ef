"""Strings that can be drawn: tokens made visible, numbers, and their widths."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import math
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from matplotlib.font_manager import get_font
from matplotlib.ft2font import LoadFlags

from workers.figures.style import BOLD_FILE, POINTS_PER_INCH, REGULAR_FILE

# Longer tokens are elided to the width of their place long before this many characters.
LONGEST = 160
# Control, format, surrogate, private, unassigned; line, paragraph and other separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
SPACE = "␣"
NOTHING = "∅"
CARRIER = "◌"
ELLIPSIS = "…"
# Stands where there is no number.
NO_NUMBER = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """Every code point that the typeface has in both weights."""
    regular, bold = (get_font(path).get_charmap() for path in (REGULAR_FILE, BOLD_FILE))
    return frozenset(regular) & frozenset(bold)


@lru_cache(maxsize=8192)
def _advance(char: str, bold: bool) -> float:
    """Width of one character, in units of the type size."""
    face = get_font(BOLD_FILE if bold else REGULAR_FILE)
    face.set_size(100, POINTS_PER_INCH)
    glyph = face.load_char(ord(char), LoadFlags.NO_HINTING)
    return float(glyph.linearHoriAdvance) / 65536 / 100


def width(text: str, size: float, bold: bool = False) -> float:
    """Inches that `text` takes at `size` points, without kerning, ligatures or hinting.

    An estimate to lay pages out by; `lettering.stamp` has the width that is drawn.
    """
    return sum(_advance(char, bold) for char in text) * size / POINTS_PER_INCH


def _pieces(token: str) -> Iterator[str]:
    """The token, character by character, each made visible."""
    blank = token.isspace()
    body = token if blank else token.removeprefix(" ")
    edge = len(body) - len(body.lstrip(" ")), len(body.rstrip(" "))
    for index, char in enumerate(body):
        if char == " ":
            yield SPACE if blank or not edge[0] <= index < edge[1] else char
        elif unicodedata.category(char) in INVISIBLE or ord(char) not in _drawable():
            yield char.encode("unicode_escape").decode("ascii")
        elif index == 0 and unicodedata.combining(char):
            yield CARRIER + char
        else:
            yield char


def readable(token: str, inches: float = math.inf, size: float = 1.0, bold: bool = False) -> str:
    r"""A token as it is drawn, elided to `inches` at `size` points.

    One leading space goes (the gap before the word shows it); other spaces at the edges become
    `␣`. Characters that are invisible, or that the typeface lacks (Chinese, most emoji), become
    escapes: `\n`, `\x07`, `\u4e2d`. An escape is never cut in two. An empty token is `∅`.
    """
    return _elided(list(_pieces(token[:LONGEST])), len(token) > LONGEST, inches, size, bold)


def readable_end(text: str, inches: float, size: float, bold: bool = False) -> str:
    """The same, but of what is too long the end is kept: `…the old town`."""
    pieces = list(_pieces(text[-LONGEST:]))
    return _elided(pieces, len(text) > LONGEST, inches, size, bold, end=True)


def _elided(
    pieces: list[str], more: bool, inches: float, size: float, bold: bool, end: bool = False
) -> str:
    """The pieces together; as many of the first, or last, as fit if not all do."""
    pieces = pieces or [NOTHING]
    whole = "".join(pieces)
    if not more and width(whole, size, bold) <= inches:
        return whole
    room = inches - width(ELLIPSIS, size, bold)
    kept = ""
    for piece in reversed(pieces) if end else pieces:
        longer = piece + kept if end else kept + piece
        if width(longer, size, bold) > room:
            break
        kept = longer
    return ELLIPSIS + kept if end else kept + ELLIPSIS


def power(exponent: int) -> str:
    """10 to the power of `exponent`, typeset."""
    if exponent == 0:
        return "1"
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def signed_number(text: str) -> str:
    """A printed number with a true minus sign, and no minus before zero."""
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", "−")


def number(value: float) -> str:
    """A number to three significant digits: 0.0123, 12.3, 1.23×10⁻⁷."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return signed_number(f"{value:.{digits}f}" if value % 1 else f"{value:.0f}")
    mantissa, exponent = f"{value:.2e}".split("e")
    return signed_number(mantissa) + "×" + power(int(exponent))


def probability(value: float) -> str:
    """`= 0.99`, `= 0.9973`, `> 0.9999`: never rounded up to 1 or down to 0."""
    if 0.9999 <= value < 1:
        return "> 0.9999"
    if 0.995 <= value < 1:
        return f"= {math.floor(value * 1e4) / 1e4:.4f}"
    return f"= {value:.2f}" if value >= 0.01 or value == 0 else f"= {number(value)}"


def several(count: int, noun: str) -> str:
    """How many there are, with the noun's plural where it is due."""
    return f"{count} {noun}{'s' * (count != 1)}"
