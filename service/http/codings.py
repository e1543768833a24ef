"""Content codings: which one a client likes best, and what compresses (RFC 9110, 12.5.3)."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from zstandard import ZstdCompressor

_QUALITY = r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?"
_ITEM = re.compile(rf"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=({_QUALITY}))?", re.IGNORECASE)
_ALIASES = {"x-gzip": "gzip"}
_IDENTITY = "identity"

# Half the time of the default levels for results, which are mostly numbers, and as small.
_GZIP_LEVEL, _ZSTD_LEVEL = 4, 1
# What zlib calls the gzip format with the largest window.
_GZIP_WINDOW = 31


class Compressor(Protocol):
    """Compresses one body, piece by piece."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """The compressed bytes that are ready."""

    def flush(self) -> bytes:
        """The rest."""


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "gzip": lambda: zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW),
    "zstd": lambda: ZstdCompressor(level=_ZSTD_LEVEL).compressobj(),
}
# A client that takes anything, and names nothing, is likelier old than new.
_ORDER_IF_NAMED, _ORDER_IF_NOT = ("gzip", "zstd"), ("zstd", "gzip")


@dataclass(frozen=True)
class Accepted:
    """What a client takes: the coding it likes best, None for none, and whether it takes none."""

    coding: str | None
    plain: bool = True


def compressor_for(coding: str) -> Compressor:
    """A compressor of a coding that `accepted_by` named."""
    return _COMPRESSORS[coding]()


@lru_cache(maxsize=256)
def accepted_by(header: str) -> Accepted:
    """What `Accept-Encoding` takes; items that are malformed are left out of account.

    Of codings that are liked the same, one that is named comes before one that `*` covers, zstd
    before gzip, and any before none. A client that takes nothing we have is sent plain bytes.
    """
    weights = _weights(header)
    rest = weights.get("*")

    def rank(coding: str) -> tuple[float, bool, int]:
        is_named = coding in weights
        order = _ORDER_IF_NAMED if is_named else _ORDER_IF_NOT
        return weights.get(coding, rest or 0.0), is_named, order.index(coding)

    best = max(_COMPRESSORS, key=rank)
    weight = rank(best)[0]
    # Plain bytes are taken unless they are ruled out, and asked for only where they are named.
    plain = weights.get(_IDENTITY, rest if rest == 0 else None)
    if weight == 0 or weights.get(_IDENTITY, 0.0) > weight:
        return Accepted(None)
    return Accepted(best, plain=plain != 0)


def _weights(header: str) -> dict[str, float]:
    found = [_ITEM.fullmatch(item.strip(" \t")) for item in header.split(",")]
    named = [(item[1].lower(), float(item[2] or 1)) for item in found if item]
    return {_ALIASES.get(coding, coding): weight for coding, weight in named}
