"""The artifact store: bytes under {job id}/{fencing token}/{name}.

Readers come through the record's committed token only, so they see none of a job's files or all,
and what a refused attempt wrote is never read. One API for local disk and object stores (obstore);
on local disk every file is on stable storage before `put` returns.
"""

import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from types import TracebackType

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from jobs.identity import is_job_id, is_token
from jobs.store import Attempt
from schemas.artifact_names import is_artifact_name
from schemas.job import Artifact, Shows
from schemas.names import ArtifactKind
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings

# Bytes that a reader holds at a time, and of one question to an object store. Read by range, which
# on local disk is four times as fast as obstore's stream, and holds neither a file nor a connection
# open for a slow client.
PIECE = 1 << 18


ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class ArtifactNotFound(LookupError):  # noqa: N818 - reads as what it says
    """There is no such artifact; for a committed one, its bytes were taken or cut from outside."""


class ArtifactStore:
    """Where the files of finished jobs lie."""

    def __init__(self, settings: Settings) -> None:
        self._root = (settings.data_dir / "artifacts").absolute()
        self._store = LocalStore(self._root, mkdir=True)

    def writer(self, attempt: Attempt) -> "ArtifactWriter":
        """A writer for one attempt's files."""
        return ArtifactWriter(self._store, self._root, attempt)

    def read(self, job_id: str, token: str, name: str) -> bytes:
        """All bytes of one file. Raises ArtifactNotFound, also for a name that cannot be one."""
        path = _path(job_id, token, name)
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError as missing:
            raise ArtifactNotFound(f"there is no artifact {path}") from missing

    def stream(self, job_id: str, token: str, name: str, span: range) -> Iterator[bytes]:
        """The bytes of one file from `span.start` to before `span.stop`, and no others, in pieces.

        Raises ArtifactNotFound before the first piece, and when a later one is no more there: what
        comes is never shorter than `span`.
        """
        path = _path(job_id, token, name)
        spans = (span[at : at + PIECE] for at in range(0, len(span), PIECE))
        first = [self._piece(path, piece) for piece in islice(spans, 1)]
        return chain(first, (self._piece(path, piece) for piece in spans))

    def sizes(self, job_id: str, token: str) -> dict[str, int]:
        """Bytes of every file of an attempt, by name, in one question for a thousand of them."""
        if not (is_job_id(job_id) and is_token(token)):
            return {}
        found = chain.from_iterable(obstore.list(self._store, f"{job_id}/{token}"))
        return {meta["path"].rpartition("/")[2]: meta["size"] for meta in found}

    def _piece(self, path: str, span: range) -> bytes:
        try:
            found = obstore.get_range(self._store, path, start=span.start, end=span.stop)
        except (OSError, BaseError) as missing:
            raise ArtifactNotFound(f"{path} has no bytes {span.start} to {span.stop}") from missing
        if len(found) != len(span):
            raise ArtifactNotFound(f"{path} ends at byte {span.start + len(found)}")
        return bytes(found)

    def discard(self, job_id: str, token: str) -> None:
        """Remove what a dead attempt wrote; nothing there is fine. Raises OSError."""
        if is_job_id(job_id) and is_token(token):
            folder = self._root / job_id
            shutil.rmtree(folder / token, onerror=_unless_gone)
            # It is not empty while another attempt of the job has files.
            with suppress(OSError):
                folder.rmdir()


class ArtifactWriter:
    """Writes the files of one attempt. Not for several threads at once."""

    def __init__(self, store: LocalStore, root: Path, attempt: Attempt) -> None:
        self._store = store
        self._root = root
        self._path = f"{attempt.job_id}/{attempt.token}"
        self._folder_is_durable = False

    def put(
        self, name: str, data: bytes, kind: ArtifactKind, media_type: str, shows: Shows
    ) -> Artifact:
        """Store one file durably and describe it; nobody can read it before `JobStore.succeed`.

        Raises ValueError when `name` is not a plain file name or was written before, and
        ProblemError (storage-failed) when the store does not take it.
        """
        if not is_artifact_name(name):
            raise ValueError(
                f"{name!r} is not an artifact name: letters, digits and ._- only, no leading dot"
            )
        try:
            obstore.put(self._store, f"{self._path}/{name}", data, mode="create")
            self._make_durable(name)
        except AlreadyExistsError as taken:
            raise ValueError(f"this attempt has already written {name!r}") from taken
        except (BaseError, OSError) as error:
            raise ProblemError(
                ProblemType.STORAGE_FAILED,
                f"`{name}` could not be written to the artifact store: it is full, or closed to "
                "the worker. The operator's log has the cause; once it is mended, send the job "
                "again.",
            ) from error
        return Artifact(
            name=name,
            kind=kind,
            media_type=media_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            crc32=f"{zlib.crc32(data):08x}",
            shows=shows,
        )

    def _make_durable(self, name: str) -> None:
        folder = self._root / self._path
        _sync(folder / name)
        _sync(folder)
        if not self._folder_is_durable:
            for above in (folder.parent, self._root, self._root.parent):
                _sync(above)
            self._folder_is_durable = True


def _path(job_id: str, token: str, name: str) -> str:
    if not (is_job_id(job_id) and is_token(token) and is_artifact_name(name)):
        raise ArtifactNotFound(f"no artifact can have the name {name!r}")
    return f"{job_id}/{token}/{name}"


def _unless_gone(what: object, path: str, error: ExcInfo) -> None:
    """Go on where someone else has removed it at the same moment. Raises OSError."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _sync(path: Path) -> None:
    """Put a file's bytes, or a directory's entries, on stable storage (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
