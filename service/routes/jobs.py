"""Submitting jobs and looking at them."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

from anyio import to_thread
from fastapi import Path, Request, Response
from fastapi.routing import APIRoute

from catalogue.admission import admit
from schemas.job import Job
from schemas.names import API_VERSION
from schemas.problem import ProblemError, ProblemType
from service.body import parse_object, read_body
from service.context import Context, context_of
from service.openapi import JOB_BODY, POLL_HEADERS, SUBMIT_HEADERS, problems, success
from service.responses import NO_STORE, POLL_AFTER, json_response
from service.routes import new_router
from service.validation import validate_request

JOBS = f"/{API_VERSION}/jobs"

JobId = Annotated[str, Path(description="The job's `id`")]


class _PlainRoute(APIRoute):
    """A route whose function takes the request and strings of the path, and nothing else.

    Looking for what else it might want takes FastAPI longer than the store takes to answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Call the function; there is nothing to convert and nothing to refuse."""
        function = self.endpoint

        async def handle(request: Request) -> Response:
            answer: Response = await function(request=request, **request.path_params)
            return answer

        return handle


router = new_router(prefix=JOBS, tags=["jobs"], route_class=_PlainRoute)

_POLL = NO_STORE | {"Retry-After": str(POLL_AFTER)}

# Reading a text takes up to two hundred times its bytes of memory until its tokens are counted, so
# bodies from this size on are read one at a time.
_LARGE_BODY = 1 << 18


@router.post(
    "",
    status_code=202,
    openapi_extra={"requestBody": JOB_BODY},
    responses={
        202: success("The job is accepted and durable", "Job", "job", SUBMIT_HEADERS),
        **problems(
            ProblemType.MALFORMED_JSON,
            ProblemType.REQUEST_TIMEOUT,
            ProblemType.BODY_TOO_LARGE,
            ProblemType.UNSUPPORTED_MEDIA_TYPE,
            ProblemType.INVALID_REQUEST,
            ProblemType.UNAVAILABLE,
        ),
    },
)
async def submit_job(request: Request) -> Response:
    """Ask for an analysis. Everything but `texts` has a default.

    A request that cannot be run as it stands is refused here, with every field that is wrong.
    """
    context = context_of(request)
    settings = context.settings
    body = await read_body(request, settings.max_body_bytes, settings.body_time_limit)
    limiter = context.large_bodies if len(body) >= _LARGE_BODY else None
    caller = request.client.host if request.client else ""
    job = await to_thread.run_sync(_accept, context, body, caller, limiter=limiter)
    return json_response(job, _POLL | {"Location": job.links.self}, 202)


@router.get(
    "/{job_id}",
    responses={
        200: success("The job as it stands", "Job", "job", POLL_HEADERS),
        **problems(ProblemType.NOT_FOUND, ProblemType.UNAVAILABLE),
    },
)
async def get_job(job_id: JobId, request: Request) -> Response:
    """Where a job stands. Until it has ended, `Retry-After` says when to ask again."""
    found = await context_of(request).lookup.find(job_id)
    if found is None:
        raise_unknown(job_id)
    return json_response(found.body, NO_STORE if found.has_ended else _POLL)


def raise_unknown(job_id: str) -> NoReturn:
    """Say that there is no such job."""
    raise ProblemError(
        ProblemType.NOT_FOUND, f"There is no job `{job_id[:60]}`. Is the id complete?"
    )


def _accept(context: Context, body: bytearray, caller: str) -> Job:
    request = validate_request(parse_object(body))
    admit(request, context.settings)
    return context.jobs.submit(request, caller)
