"""What a finished job left: its result document and its files, as they were stored."""

from typing import Annotated, NoReturn

from fastapi import Path, Request, Response
from fastapi.responses import StreamingResponse

from jobs import StoredArtifacts
from jobs.artifacts import ArtifactNotFound, is_artifact_name
from schemas.job import Artifact, ArtifactList
from schemas.names import RESULT_FILE, Status
from schemas.problem import Problem, ProblemError, ProblemType
from service.boundary import IS_HEAD
from service.context import Context, context_of
from service.openapi import (
    FILE_HEADERS,
    NOT_MODIFIED,
    file_content,
    problems,
    success,
)
from service.responses import json_response
from service.routes import new_router
from service.routes.jobs import JOBS, JobId
from service.visibility import raise_unknown, visible

router = new_router(prefix=JOBS, tags=["results"])

_IMMUTABLE = "private, max-age=31536000, immutable"

_PROBLEMS = problems(
    ProblemType.NOT_FOUND,
    ProblemType.GONE,
    ProblemType.NOT_FINISHED,
    ProblemType.JOB_FAILED,
    ProblemType.UNAVAILABLE,
)


@router.get(
    "/{job_id}/result",
    responses={
        200: success("The result document", "ResultDocument", None, FILE_HEADERS),
        304: NOT_MODIFIED,
        **_PROBLEMS,
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
    return json_response(listed, {"Cache-Control": _IMMUTABLE})


@router.get(
    "/{job_id}/artifacts/{name:path}",
    responses={
        200: {"description": "The bytes", "content": file_content(), "headers": FILE_HEADERS},
        304: NOT_MODIFIED,
        **_PROBLEMS,
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
            f"{JOBS}/{job_id[:60]}/artifacts lists them.",
        )
    return _file(job_id, name, request)


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
            f"{JOBS}/{stored.job_id}/artifacts lists their names.",
        )
    tag = f'"{artifact.sha256}"'
    headers = {"ETag": tag, "Cache-Control": _IMMUTABLE}
    if _holds(request.headers.get("if-none-match"), tag):
        return Response(None, 304, headers)
    headers["Content-Length"] = str(artifact.size)
    if request.scope.get(IS_HEAD):
        return Response(None, 200, headers, artifact.media_type)
    return _stream(context, stored, artifact, headers)


def _stream(
    context: Context, stored: StoredArtifacts, artifact: Artifact, headers: dict[str, str]
) -> Response:
    try:
        pieces = context.jobs.artifacts.stream(stored.run_of, stored.token, artifact.name)
    except ArtifactNotFound:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"The bytes of `{artifact.name}` are not in the artifact store that this service "
            "reads. The operator has to mount or restore it.",
        ) from None
    return StreamingResponse(pieces, 200, headers, artifact.media_type)


def _holds(if_none_match: str | None, tag: str) -> bool:
    """Whether a client's If-None-Match names this representation (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    names = {name.strip().removeprefix("W/") for name in if_none_match.split(",")}
    return "*" in names or tag in names
