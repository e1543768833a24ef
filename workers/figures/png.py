"""PNG files of pages: large, mostly white, the same from row to row."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from workers.figures.colours import Rgb

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2
_UP = 2
# Every row is filtered as its difference from the one above, chosen beforehand: a third of the time
# of trying the five filters row by row, for about as many bytes. Higher levels gain little.
LEVEL = 2
INCH = 0.0254


def encode(pixels: Rgb, dpi: int, texts: Mapping[str, str]) -> bytes:
    """A PNG file of (height, width, channels) bytes, whose first three channels are drawn.

    `texts` become its text entries. Source: the PNG specification, third edition.
    """
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    for channel in range(3):
        plane, filtered = pixels[..., channel], rows[:, 1 + channel :: 3]
        filtered[0] = plane[0]
        np.subtract(plane[1:], plane[:-1], out=filtered[1:])
    per_metre = round(dpi / INCH)
    entries = [
        _chunk(b"iTXt", key.encode("latin-1") + bytes(5) + text.encode())
        for key, text in texts.items()
    ]
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)),
            _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
            *entries,
            _chunk(b"IDAT", zlib.compress(rows.data, LEVEL)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
