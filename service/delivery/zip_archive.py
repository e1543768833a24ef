"""A zip archive of stored files whose every byte is known before any file is read.

Files are stored and not deflated: figures and tensors do not shrink. So the place of each byte
follows from names, sizes and CRCs, which makes the length known, any part readable by itself, and
the bytes the same each time. Format: PKWARE's APPNOTE 6.3.10; zip64 where a number outgrows the
older fields.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")

_STORED = 0
_VERSION, _VERSION64 = 20, 45
_UNIX = 3 << 8
_REGULAR_FILE = 0o100644 << 16
# 1 January 1980, 0:00, the earliest there is: the time of a file is no part of its bytes.
_TIME, _DATE = 0, 1 << 5 | 1
_ZIP64 = 1
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in an archive; its name is ASCII, its size in bytes."""

    name: str
    size: int
    crc32: int


ReadFile = Callable[[str, range], Iterator[bytes]]


class ZipArchive:
    """The archive of some files, in their order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._offsets = []
        at = 0
        for entry in entries:
            self._offsets.append(at)
            at += len(_local(entry)) + entry.size
        self._directory_at = at
        self._directory = b"".join(map(_central, entries, self._offsets))
        self._directory += _end(len(entries), len(self._directory), at)

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return self._directory_at + len(self._directory)

    def read(self, span: range, read_file: ReadFile) -> Iterator[bytes]:
        """The bytes of a span in pieces; `read_file` reads those of a span of a file, by name.

        Files are read when their turn comes, and only where the span meets them.
        """
        for entry, at in zip(self._entries, self._offsets, strict=True):
            header = _local(entry)
            yield _cut(header, at, span)
            within = _within(span, at + len(header), entry.size)
            if within:
                yield from read_file(entry.name, within)
        yield _cut(self._directory, self._directory_at, span)


def _within(span: range, at: int, size: int) -> range:
    """The part of `size` bytes from `at` on that a span meets, counted from `at`."""
    return range(max(span.start - at, 0), min(span.stop - at, size))


def _cut(data: bytes, at: int, span: range) -> bytes:
    within = _within(span, at, len(data))
    return data[within.start : within.stop] if within else b""


def _local(entry: Entry) -> bytes:
    is_large = entry.size >= _MAX32
    size = _MAX32 if is_large else entry.size
    extra = _extra([entry.size, entry.size] if is_large else [])
    name = entry.name.encode("ascii")
    head = _LOCAL.pack(
        *(b"PK\x03\x04", _VERSION64 if is_large else _VERSION, 0, _STORED, _TIME, _DATE),
        *(entry.crc32, size, size, len(name), len(extra)),
    )
    return head + name + extra


def _central(entry: Entry, offset: int) -> bytes:
    is_large, is_far = entry.size >= _MAX32, offset >= _MAX32
    size = _MAX32 if is_large else entry.size
    extra = _extra(([entry.size, entry.size] if is_large else []) + ([offset] if is_far else []))
    version = _VERSION64 if extra else _VERSION
    name = entry.name.encode("ascii")
    head = _CENTRAL.pack(
        *(b"PK\x01\x02", _UNIX | version, version, 0, _STORED, _TIME, _DATE),
        *(entry.crc32, size, size, len(name), len(extra), 0, 0, 0, _REGULAR_FILE),
        _MAX32 if is_far else offset,
    )
    return head + name + extra


def _extra(numbers: list[int]) -> bytes:
    """The zip64 field of the numbers that do not fit theirs."""
    count = len(numbers)
    return struct.pack(f"<2H{count}Q", _ZIP64, 8 * count, *numbers) if numbers else b""


def _end(count: int, size: int, offset: int) -> bytes:
    """What closes an archive: `count` entries, whose directory of `size` bytes is at `offset`."""
    short = _END.pack(
        b"PK\x05\x06",
        *(0, 0, min(count, _MAX16), min(count, _MAX16)),
        *(min(size, _MAX32), min(offset, _MAX32), 0),
    )
    if count < _MAX16 and size < _MAX32 and offset < _MAX32:
        return short
    body = _END64.size - 12
    long = _END64.pack(
        *(b"PK\x06\x06", body, _UNIX | _VERSION64, _VERSION64, 0, 0, count, count, size, offset)
    )
    return long + _LOCATOR.pack(b"PK\x06\x07", 0, offset + size, 1) + short
