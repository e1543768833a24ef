"""The files of a job as one archive."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from jobs import StoredArtifacts
from jobs.artifacts import ArtifactNotFound, ArtifactStore
from schemas.job import Artifact
from schemas.problem import ProblemError, ProblemType
from service.delivery.representation import Representation
from service.delivery.zip_archive import Entry, ZipArchive

# Stands in the tag, and has to change when the same files would make other bytes.
_LAYOUT = "zip 1"
# Small files are sent together, since each piece costs a change of threads.
_PIECE = 1 << 18
_NAMES_SHOWN = 5


def archive_of(job_id: str, stored: StoredArtifacts, store: ArtifactStore) -> Representation:
    """A zip of all files of a job, streamed; reading it raises ProblemError(UNAVAILABLE)."""
    files = _Files(stored, store)
    described = [f"{file.name} {file.size} {file.sha256}" for file in stored.artifacts]
    digest = hashlib.sha256("\n".join([_LAYOUT, *described]).encode())
    return Representation(
        tag=f'"{digest.hexdigest()}"',
        size=ZipArchive([Entry(file.name, file.size, 0) for file in stored.artifacts]).size,
        media_type="application/zip",
        disposition=f'attachment; filename="mambascope-{job_id}.zip"',
        read=files.read,
    )


def missing_bytes(names: list[str]) -> ProblemError:
    """The artifact store does not hold what the job's record says."""
    shown = ", ".join(f"`{name}`" for name in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ProblemError(
        ProblemType.UNAVAILABLE,
        f"The bytes of {shown}{more} are not in the artifact store that this service reads. "
        "The operator has to mount or restore it.",
    )


@dataclass(frozen=True)
class _Files:
    stored: StoredArtifacts
    store: ArtifactStore

    def read(self, span: range) -> Iterator[bytes]:
        """A span of the archive, once every file has been seen to be there."""
        files, run, token = self.stored.artifacts, self.stored.run_of, self.stored.token
        sizes = self.store.sizes(run, token)
        missing = [file.name for file in files if sizes.get(file.name) != file.size]
        if missing:
            raise missing_bytes(missing)
        # The descriptions of thousands of files take megabytes: none is held while a client reads.
        read = _Reader(self.store, run, token)
        try:
            entries = [Entry(file.name, file.size, _crc32(file, read)) for file in files]
        except ArtifactNotFound:
            raise missing_bytes([file.name for file in files if file.crc32 is None]) from None
        return _gathered(ZipArchive(entries).read(span, read))


@dataclass(frozen=True)
class _Reader:
    store: ArtifactStore
    run: str
    token: str

    def __call__(self, name: str, span: range) -> Iterator[bytes]:
        return self.store.stream(self.run, self.token, name, span)


def _crc32(file: Artifact, read: _Reader) -> int:
    if file.crc32 is not None:
        return int(file.crc32, 16)
    return reduce(lambda crc, piece: zlib.crc32(piece, crc), read(file.name, range(file.size)), 0)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are not small."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
