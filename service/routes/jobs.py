"""Submitting jobs and looking at them."""

from typing import NoReturn

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response

from catalogue.admission import admit
from schemas.job import Job
from schemas.names import API_VERSION
from schemas.problem import ProblemError, ProblemType
from service.body import parse_object, read_body
from service.context import Context
from service.openapi import JOB_BODY, POLL_HEADERS, problems, success
from service.problems import POLL_AFTER
from service.validation import validate_request

JSON = "application/json"
JOBS = f"/{API_VERSION}/jobs"

_FINAL = {"Cache-Control": "no-store"}
_POLL = _FINAL | {"Retry-After": str(POLL_AFTER)}

# Reading a text takes up to two hundred times its bytes of memory until its tokens are counted, so
# bodies from this size on are read one at a time.
_LARGE_BODY = 1 << 18

_SUBMIT_PROBLEMS = (
    ProblemType.MALFORMED_JSON,
    ProblemType.BODY_TOO_LARGE,
    ProblemType.UNSUPPORTED_MEDIA_TYPE,
    ProblemType.INVALID_REQUEST,
    ProblemType.UNAVAILABLE,
)


def add_routes(app: FastAPI, context: Context) -> None:
    """Add the routes of jobs to the application."""
    limit = context.settings.max_body_bytes
    one_at_a_time = CapacityLimiter(1)

    def accept(body: bytearray) -> Job:
        request = validate_request(parse_object(body))
        admit(request, context.settings)
        return context.jobs.submit(request)

    @app.post(
        JOBS,
        status_code=202,
        response_class=Response,
        tags=["jobs"],
        openapi_extra={"requestBody": JOB_BODY},
        responses={
            202: success("The job is accepted and durable", "Job", "job", POLL_HEADERS),
            **problems(*_SUBMIT_PROBLEMS),
        },
    )
    async def submit_job(request: Request) -> Response:
        """Ask for an analysis. Everything but `texts` has a default.

        A request that cannot be run as it stands is refused here, with every field that is wrong.
        """
        body = await read_body(request, limit)
        limiter = one_at_a_time if len(body) >= _LARGE_BODY else None
        job = await to_thread.run_sync(accept, body, limiter=limiter)
        headers = _POLL | {"Location": job.links.self}
        return Response(job.model_dump_json(), 202, headers, JSON)

    @app.get(
        JOBS + "/{job_id}",
        response_class=Response,
        tags=["jobs"],
        responses={
            200: success("The job as it stands", "Job", "job", POLL_HEADERS),
            **problems(ProblemType.NOT_FOUND, ProblemType.UNAVAILABLE),
        },
    )
    async def get_job(job_id: str) -> Response:
        """Where a job stands. Until it has ended, `Retry-After` says when to ask again."""
        found = await context.lookup.find(job_id)
        if found is None:
            raise_unknown(job_id)
        return Response(found.body, 200, _FINAL if found.has_ended else _POLL, JSON)


def raise_unknown(job_id: str) -> NoReturn:
    """Say that there is no such job."""
    raise ProblemError(
        ProblemType.NOT_FOUND, f"There is no job `{job_id[:60]}`. Is the id complete?"
    )
