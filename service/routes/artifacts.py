"""What a finished job left: its result document and its files, as they were stored."""

from collections.abc import Iterator
from typing import Annotated, NoReturn

from fastapi import Path, Request, Response

from jobs import StoredArtifacts
from jobs.artifacts import ArtifactNotFound
from schemas.artifact_names import is_artifact_name
from schemas.job import ArtifactList
from schemas.names import JOBS_PATH, RESULT_FILE, Status
from schemas.problem import Problem, ProblemError, ProblemType
from service.access.visibility import raise_unknown, visible
from service.context import Context, context_of
from service.delivery.job_archive import archive_of, missing_bytes
from service.delivery.representation import IMMUTABLE, Representation, deliver
from service.openapi.answers import (
    ARCHIVE,
    ARCHIVE_HEADERS,
    FILE_HEADERS,
    NOT_MODIFIED,
    PART_HEADERS,
    file_content,
    part_content,
    problems,
    success,
)
from service.openapi.requests import CONDITIONS
from service.responses import JSON, json_response
from service.routes import new_router
from service.routes.jobs import JobId

router = new_router(prefix=JOBS_PATH, tags=["results"])

# Safe to show: the type of no response is guessed, since each says `nosniff`.
_SHOWN_BY_BROWSERS = ("image/png", JSON)

_PROBLEMS = problems(
    ProblemType.NOT_FOUND,
    ProblemType.GONE,
    ProblemType.NOT_FINISHED,
    ProblemType.JOB_FAILED,
    ProblemType.UNAVAILABLE,
)


_FILE_PROBLEMS = _PROBLEMS | problems(
    ProblemType.PRECONDITION_FAILED, ProblemType.RANGE_NOT_SATISFIABLE
)


@router.get(
    "/{job_id}/result",
    openapi_extra=CONDITIONS,
    responses={
        200: success("The result document", "ResultDocument", None, FILE_HEADERS),
        206: {"description": "A part of it", "content": part_content(), "headers": PART_HEADERS},
        304: NOT_MODIFIED,
        **_FILE_PROBLEMS,
    },
)
def get_result(job_id: JobId, request: Request) -> Response:
    """The result document: the stored bytes of `result.json`."""
    return _file(job_id, RESULT_FILE, request)


@router.get(
    "/{job_id}/artifacts",
    responses={
        200: success("Every file of the job", "ArtifactList", "artifacts"),
        **_PROBLEMS,
    },
)
def list_artifacts(job_id: JobId, request: Request) -> Response:
    """Every file of a job: name, media type, size, SHA-256 and what it shows."""
    stored = _stored(request, job_id)
    listed = ArtifactList(job_id=job_id, artifacts=stored.artifacts)
    return json_response(listed, {"Cache-Control": IMMUTABLE})


@router.get(
    "/{job_id}/artifacts/{name:path}",
    openapi_extra=CONDITIONS,
    responses={
        200: {"description": "The bytes", "content": file_content(), "headers": FILE_HEADERS},
        206: {"description": "A part of them", "content": part_content(), "headers": PART_HEADERS},
        304: NOT_MODIFIED,
        **_FILE_PROBLEMS,
    },
)
def get_artifact(
    job_id: JobId,
    name: Annotated[str, Path(description="The artifact's `name`", examples=[RESULT_FILE])],
    request: Request,
) -> Response:
    """The bytes of one file. They never change, so the SHA-256 is a strong `ETag`."""
    if not is_artifact_name(name):
        raise ProblemError(
            ProblemType.NOT_FOUND,
            f"`{name[:100]}` is no artifact's name: those are plain file names. "
            f"{JOBS_PATH}/{job_id[:60]}/artifacts lists them.",
        )
    return _file(job_id, name, request)


@router.get(
    "/{job_id}/archive",
    openapi_extra=CONDITIONS,
    responses={
        200: {"description": "The archive", "content": ARCHIVE, "headers": ARCHIVE_HEADERS},
        206: {"description": "A part of it", "content": ARCHIVE, "headers": PART_HEADERS},
        304: NOT_MODIFIED,
        **_FILE_PROBLEMS,
    },
)
def get_archive(job_id: JobId, request: Request) -> Response:
    """Every file of the job in one zip, under the names that `/artifacts` lists.

    The same bytes each time, so a download that broke off goes on with `Range` and `If-Range`.
    """
    store = context_of(request).jobs.artifacts
    return _delivered(archive_of(job_id, _stored(request, job_id), store), job_id, request)


def _stored(request: Request, job_id: str) -> StoredArtifacts:
    """The artifacts of a succeeded job of the caller's.

    Raises ProblemError: NOT_FOUND, GONE, NOT_FINISHED before the end, JOB_FAILED without a result.
    """
    visible(request, job_id)
    context = context_of(request)
    stored = context.jobs.store.artifacts(job_id)
    return stored if stored is not None else _raise_without_result(context, job_id)


def _raise_without_result(context: Context, job_id: str) -> NoReturn:
    job = context.jobs.store.get(job_id)
    if job is None:
        raise_unknown(job_id)
    if job.error is not None:
        cause: Problem = job.error
        detail = f"{cause.title}: {cause.detail}"
        raise ProblemError(ProblemType.JOB_FAILED, detail, cause.errors)
    if job.status is Status.CANCELLED:
        raise ProblemError(ProblemType.JOB_FAILED, "The job was cancelled.")
    detail = f"The job is {job.status}. Ask {job.links.self} until it has ended."
    raise ProblemError(ProblemType.NOT_FINISHED, detail)


def _file(job_id: str, name: str, request: Request) -> Response:
    context = context_of(request)
    stored = _stored(request, job_id)
    artifact = next((entry for entry in stored.artifacts if entry.name == name), None)
    if artifact is None:
        raise ProblemError(
            ProblemType.NOT_FOUND,
            f"The job has no artifact `{name[:100]}`. "
            f"{JOBS_PATH}/{stored.job_id}/artifacts lists their names.",
        )
    is_shown = artifact.media_type in _SHOWN_BY_BROWSERS
    representation = Representation(
        tag=f'"{artifact.sha256}"',
        size=artifact.size,
        media_type=artifact.media_type,
        disposition=f'{"inline" if is_shown else "attachment"}; filename="{artifact.name}"',
        read=lambda span: _read(context, stored, artifact.name, span),
        digest=bytes.fromhex(artifact.sha256),
    )
    return _delivered(representation, job_id, request)


def _delivered(representation: Representation, job_id: str, request: Request) -> Response:
    """The bytes; raises ProblemError GONE where they went with their job a moment ago."""
    try:
        return deliver(representation, request)
    except ProblemError as error:
        if error.kind is ProblemType.UNAVAILABLE:
            visible(request, job_id)
        raise


def _read(context: Context, stored: StoredArtifacts, name: str, span: range) -> Iterator[bytes]:
    try:
        return context.jobs.artifacts.stream(stored.run_of, stored.token, name, span)
    except ArtifactNotFound:
        raise missing_bytes([name]) from None
