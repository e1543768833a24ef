"""Range requests (RFC 9110, section 14): which bytes of a representation a client asked for."""

import re
from collections.abc import Sequence

_SPECIFIER = re.compile(r"bytes=(.*)", re.IGNORECASE)
_INTERVAL = re.compile(r"([0-9]+)-([0-9]*)")
_SUFFIX = re.compile(r"-([0-9]+)")

# A header with more is no honest wish, and may be ignored.
_MAX_SPANS = 64
# No file is longer, and int() of more digits costs the square of their number.
_FARTHEST = 10**18


class RangeNotSatisfiable(Exception):  # noqa: N818 - it says what is the case
    """No range that was asked for holds a byte."""


def requested_span(values: Sequence[str], size: int) -> range | None:
    """The one span that `Range` asks for of `size` bytes; None: all of them are to be sent.

    `values` are the header's lines. It is ignored, as the RFC allows, if it is malformed, comes
    twice, counts in other units or asks for several spans, and where there are no bytes. Raises
    RangeNotSatisfiable.
    """
    found = _SPECIFIER.fullmatch(values[0].strip(" \t")) if len(values) == 1 else None
    if found is None or size == 0:
        return None
    specs = [spec.strip(" \t") for spec in found[1].split(",", _MAX_SPANS)]
    spans = [_span(spec, size) for spec in specs if spec]
    if not spans or None in spans:
        return None
    held = [span for span in spans if span]
    if not held:
        raise RangeNotSatisfiable
    return held[0] if len(held) == 1 else None


def _span(spec: str, size: int) -> range | None:
    """The bytes that one range holds, which may be none; None: it is malformed."""
    if found := _SUFFIX.fullmatch(spec):
        return range(max(size - _number(found[1]), 0), size)
    if (found := _INTERVAL.fullmatch(spec)) is None:
        return None
    first, last = _number(found[1]), _number(found[2]) if found[2] else _FARTHEST
    return range(first, min(last + 1, size)) if first <= last else None


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < len(str(_FARTHEST)) else _FARTHEST
