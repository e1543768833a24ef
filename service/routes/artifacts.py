"""What a finished job left: its result document and its files, as they were stored."""

from typing import NoReturn

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from jobs import StoredArtifacts
from jobs.artifacts import ArtifactNotFound, is_artifact_name
from schemas.job import Artifact, ArtifactList
from schemas.names import RESULT_FILE, Status
from schemas.problem import Problem, ProblemError, ProblemType
from service.boundary import IS_HEAD
from service.context import Context
from service.openapi import (
    FILE_HEADERS,
    NOT_MODIFIED,
    file_content,
    problems,
    success,
)
from service.routes.jobs import JOBS, JSON, raise_unknown

IMMUTABLE = "private, max-age=31536000, immutable"

_PROBLEMS = problems(
    ProblemType.NOT_FOUND,
    ProblemType.NOT_FINISHED,
    ProblemType.JOB_FAILED,
    ProblemType.UNAVAILABLE,
)


def add_routes(app: FastAPI, context: Context) -> None:
    """Add the routes of results and artifacts to the application."""

    @app.get(
        JOBS + "/{job_id}/result",
        response_class=Response,
        tags=["results"],
        responses={
            200: success("The result document", "ResultDocument", None, FILE_HEADERS),
            304: NOT_MODIFIED,
            **_PROBLEMS,
        },
    )
    def get_result(job_id: str, request: Request) -> Response:
        """The result document: the stored bytes of `result.json`."""
        stored = stored_of(context, job_id)
        return _file(context, stored, RESULT_FILE, request)

    @app.get(
        JOBS + "/{job_id}/artifacts",
        response_class=Response,
        tags=["results"],
        responses={
            200: success("Every file of the job", "ArtifactList", "artifacts"),
            **_PROBLEMS,
        },
    )
    def list_artifacts(job_id: str) -> Response:
        """Every file of a job: name, media type, size, SHA-256 and what it shows."""
        listed = ArtifactList(job_id=job_id, artifacts=stored_of(context, job_id).artifacts)
        return Response(listed.model_dump_json(), 200, {"Cache-Control": IMMUTABLE}, JSON)

    @app.get(
        JOBS + "/{job_id}/artifacts/{name:path}",
        response_class=Response,
        tags=["results"],
        responses={
            200: {
                "description": "The bytes",
                "content": file_content(),
                "headers": FILE_HEADERS,
            },
            304: NOT_MODIFIED,
            **_PROBLEMS,
        },
    )
    def get_artifact(job_id: str, name: str, request: Request) -> Response:
        """The bytes of one file. They never change, so the SHA-256 is a strong `ETag`."""
        if not is_artifact_name(name):
            raise ProblemError(
                ProblemType.NOT_FOUND,
                f"`{name[:100]}` is no artifact's name: those are plain file names. "
                f"{JOBS}/{job_id[:60]}/artifacts lists them.",
            )
        return _file(context, stored_of(context, job_id), name, request)


def stored_of(context: Context, job_id: str) -> StoredArtifacts:
    """The artifacts of a succeeded job.

    Raises ProblemError: NOT_FOUND, NOT_FINISHED before the end, JOB_FAILED without a result.
    """
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


def _file(context: Context, stored: StoredArtifacts, name: str, request: Request) -> Response:
    artifact = next((entry for entry in stored.artifacts if entry.name == name), None)
    if artifact is None:
        raise ProblemError(
            ProblemType.NOT_FOUND,
            f"The job has no artifact `{name[:100]}`. "
            f"{JOBS}/{stored.job_id}/artifacts lists their names.",
        )
    tag = f'"{artifact.sha256}"'
    headers = {"ETag": tag, "Cache-Control": IMMUTABLE}
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
        pieces = context.jobs.artifacts.stream(stored.job_id, stored.token, artifact.name)
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
