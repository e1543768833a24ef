"""Files of a job: fetched whole, also over connections that break, and compared with the list."""

import hashlib
import os
import re
import zipfile
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import quote

import httpx

from mambascope.client.errors import ServiceFault
from mambascope.client.exchange import Question
from mambascope.client.service import Service, job_path
from schemas.job import Artifact

_PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Sink(Protocol):
    """Where the bytes of a file go."""

    def write(self, piece: bytes) -> object:
        """The next of them."""

    def restart(self) -> None:
        """Forget them: they come again from the first."""


@dataclass
class Memory:
    """Bytes in memory."""

    data: bytearray = field(default_factory=bytearray)

    def write(self, piece: bytes) -> object:
        """As of `Sink`."""
        self.data += piece
        return None

    def restart(self) -> None:
        """As of `Sink`."""
        self.data.clear()


@dataclass(frozen=True)
class Disk:
    """Bytes in an open file."""

    file: BinaryIO

    def write(self, piece: bytes) -> object:
        """As of `Sink`."""
        return self.file.write(piece)

    def restart(self) -> None:
        """As of `Sink`."""
        self.file.seek(0)
        self.file.truncate()


@dataclass
class _Received:
    """What has arrived of a file."""

    sink: Sink
    limit: int | None
    size: int = 0
    furthest: int = 0
    tag: str | None = None
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def restart(self) -> None:
        self.sink.restart()
        self.size, self.tag, self.digest = 0, None, hashlib.sha256()

    def write(self, piece: bytes) -> bool:
        """Whether there may be more: not past `limit`."""
        self.size += len(piece)
        if self.limit is not None and self.size > self.limit:
            return False
        self.digest.update(piece)
        self.sink.write(piece)
        return True


async def fetch(service: Service, job_id: str, artifact: Artifact, sink: Sink) -> None:
    """The bytes of a file. Raises ServiceFault for others than those listed, and as `Service`."""
    path = f"{job_path(job_id)}/artifacts/{quote(artifact.name, safe='')}"
    received = _Received(sink, artifact.size)
    await _download(service, path, received)
    if (received.size, received.digest.hexdigest()) != (artifact.size, artifact.sha256):
        raise ServiceFault(f"{artifact.name} did not arrive as the service lists it.")


async def fetch_archive(service: Service, job_id: str, place: Path) -> None:
    """The job's zip, as a file that appears when it is whole and holds what is listed."""
    listed = await service.artifacts(job_id)
    part = part_of(place)
    try:
        with part.open("wb") as file:
            await _download(service, f"{job_path(job_id)}/archive", _Received(Disk(file), None))
        _check_archive(part, listed)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


async def fetch_to(service: Service, job_id: str, artifact: Artifact, place: Path) -> None:
    """A file on disk, that replaces another of its name in one step when it is whole."""
    part = part_of(place)
    try:
        with part.open("wb") as file:
            await fetch(service, job_id, artifact, Disk(file))
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def part_of(place: Path) -> Path:
    """Where a file is written until it is whole."""
    return place.with_name(f".{place.name[:200]}.{os.getpid()}.part")


async def _download(service: Service, path: str, received: _Received) -> None:
    """Fetch from where it broke off, for as long as that gets further."""
    is_whole = False
    while not is_whole:
        is_whole = await service.exchange.patiently(lambda: _further(service, path, received))


async def _further(service: Service, path: str, received: _Received) -> bool:
    """Whether the file is whole after one more answer. Raises Away when it got no further."""
    try:
        await _receive(service, path, received)
    except httpx.TransportError as error:
        if received.size == received.limit:
            return True
        if received.size <= received.furthest:
            raise service.exchange.lost(error) from error
        received.furthest = received.size
        return False
    return True


async def _receive(service: Service, path: str, received: _Received) -> None:
    headers = {}
    if received.tag is not None and received.size:
        # A range of compressed bytes would be none of the file's.
        headers = {
            "Range": f"bytes={received.size}-",
            "If-Range": received.tag,
            "Accept-Encoding": "identity",
        }
    answer = await service.exchange.open(Question("GET", path, headers=headers))
    try:
        if not (headers and _goes_on(answer, received.size)):
            received.restart()
            received.tag = _strong_tag(answer)
        async with aclosing(service.wire.pieces(answer)) as pieces:
            async for piece in pieces:
                if not received.write(piece):
                    return
    finally:
        await service.wire.close(answer)


def _goes_on(answer: httpx.Response, size: int) -> bool:
    """Whether an answer has the bytes from `size` on. Raises ServiceFault for others."""
    if answer.status_code != httpx.codes.PARTIAL_CONTENT:
        return False
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != size or "Content-Encoding" in answer.headers:
        raise ServiceFault("The service sent another range of the file than was asked for.")
    return True


def _strong_tag(answer: httpx.Response) -> str | None:
    """What names these very bytes, where they can be had from the middle on."""
    tag: str | None = answer.headers.get("ETag")
    if tag is None or tag.startswith("W/") or "Content-Encoding" in answer.headers:
        return None
    return tag


def _check_archive(place: Path, listed: list[Artifact]) -> None:
    """Raises ServiceFault unless every listed file is in the zip as it is listed."""
    missing = {(artifact.name, artifact.sha256) for artifact in listed}
    try:
        with zipfile.ZipFile(place) as archive:
            for entry in archive.infolist():
                digest = hashlib.sha256()
                with archive.open(entry) as file:
                    while piece := file.read(_PIECE):
                        digest.update(piece)
                missing.discard((PurePosixPath(entry.filename).name, digest.hexdigest()))
    except zipfile.BadZipFile as error:
        raise ServiceFault(f"The archive did not arrive whole ({error}).") from error
    if missing:
        raise ServiceFault(
            f"The archive lacks {', '.join(sorted(name for name, _ in missing))} as listed."
        )
