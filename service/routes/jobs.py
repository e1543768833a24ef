"""Submitting, listing, polling, cancelling, keeping and deleting jobs."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Path, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import request_response

from jobs.listing import BadCursor, Wanted
from schemas.job import Job
from schemas.names import JOBS_PATH, Departure, Status
from schemas.problem import ProblemError, ProblemType
from service.access.caller import caller_of
from service.access.visibility import raise_gone, raise_unknown, visible_soon
from service.context import context_of
from service.following.lookup import FoundJob, GoneJob
from service.following.waiting import change_of, wait_of
from service.http.entity_tags import is_named
from service.intake.acceptance import accept, once_of, raise_used_up
from service.intake.body import read_body
from service.openapi.answers import STATE_HEADERS, SUBMIT_HEADERS, problems, success
from service.openapi.requests import (
    JOB_BODY,
    LARGEST_PAGE,
    LIST_PARAMETERS,
    ONCE_PARAMETER,
    PAGE,
    WAIT_PARAMETERS,
)
from service.query import Query
from service.responses import NO_STORE, POLL_AFTER, json_response
from service.routes import new_router

JobId = Annotated[str, Path(description="The job's `id`")]


class PlainRoute(APIRoute):
    """A route whose function takes the request and strings of the path, and nothing else.

    Looking for what else it might want, and opening what that might need closed, takes FastAPI
    longer than the store takes to answer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(self._answer)

    async def _answer(self, request: Request) -> Response:
        """Call the function; there is nothing to convert and nothing to refuse."""
        response: Response = await self.endpoint(request=request, **request.path_params)
        return response


router = new_router(prefix=JOBS_PATH, tags=["jobs"], route_class=PlainRoute)

_POLL = NO_STORE | {"Retry-After": str(POLL_AFTER)}

# Reading a text takes up to two hundred times its bytes of memory until its tokens are counted, so
# bodies from this size on are read one at a time.
_LARGE_BODY = 1 << 18

_KNOWN = "if-none-match"

# What any path of one job may answer.
_PROBLEMS = problems(ProblemType.NOT_FOUND, ProblemType.GONE, ProblemType.UNAVAILABLE)


# Routes are tried in this order, and this one is asked for by far the most.
@router.get(
    "/{job_id}",
    openapi_extra={"parameters": WAIT_PARAMETERS},
    responses={
        200: success("The job as it stands", "Job", "job", STATE_HEADERS),
        304: {"description": "If-None-Match names how it stands", "headers": STATE_HEADERS},
        **problems(
            ProblemType.INVALID_REQUEST,
            ProblemType.NOT_FOUND,
            ProblemType.GONE,
            ProblemType.UNAVAILABLE,
        ),
    },
)
async def get_job(job_id: JobId, request: Request) -> Response:
    """Where a job stands. Until it has ended, `Retry-After` says when to ask again.

    With `wait` the answer comes as soon as there is one: when the job has ended, stands otherwise
    than `If-None-Match` says (without it: than at the question), or the time is over.
    """
    context = context_of(request)
    wait = wait_of(request, context.settings.max_wait)
    found = await find(request, job_id)
    is_conditional = _KNOWN in request.headers
    is_news = is_conditional and not is_named(request, _KNOWN, found.tag)
    if wait and not found.has_ended and not is_news:
        look = partial(find, request, job_id)
        found = await change_of(context.feed, job_id, look, found, wait, request.receive)
    headers = (NO_STORE if found.has_ended else _POLL) | {"ETag": found.tag}
    if is_conditional and is_named(request, _KNOWN, found.tag):
        return Response(None, 304, headers)
    return json_response(found.body, headers)


@router.post(
    "",
    status_code=202,
    openapi_extra={"requestBody": JOB_BODY, "parameters": [ONCE_PARAMETER]},
    responses={
        202: success("The job is accepted and durable", "Job", "job", SUBMIT_HEADERS),
        **problems(
            ProblemType.MALFORMED_JSON,
            ProblemType.REQUEST_TIMEOUT,
            ProblemType.GONE,
            ProblemType.BODY_TOO_LARGE,
            ProblemType.UNSUPPORTED_MEDIA_TYPE,
            ProblemType.INVALID_REQUEST,
            ProblemType.KEY_REUSED,
            ProblemType.QUEUE_LIMIT,
            ProblemType.TOKEN_LIMIT,
            ProblemType.UNAVAILABLE,
        ),
    },
)
async def submit_job(request: Request) -> Response:
    """Ask for an analysis. Everything but `texts` has a default.

    A request that cannot be run as it stands is refused here, with every field that is wrong. With
    an `Idempotency-Key` it can be sent again after a lost answer: within 24 hours the same key and
    the same request give the same job. Where an equal job of yours has a result, or is about to
    have one, it is shared: see `reuse` and `reused_from`.
    """
    context, caller = context_of(request), caller_of(request)
    settings = context.settings
    once = once_of(request)
    body = await read_body(request, settings.max_body_bytes, settings.body_time_limit)
    limiter = context.large_bodies if len(body) >= _LARGE_BODY else None
    submitted = await to_thread.run_sync(accept, context, body, caller, once, limiter=limiter)
    if submitted.job is None:
        raise_used_up(submitted.id)
    headers = _headers_of(submitted.job) | {"Location": submitted.job.links.self}
    if submitted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return json_response(submitted.job, headers, 202)


@router.get(
    "",
    openapi_extra={"parameters": LIST_PARAMETERS},
    responses={
        200: success("One page", "JobList", "jobs"),
        **problems(ProblemType.INVALID_REQUEST, ProblemType.UNAVAILABLE),
    },
)
async def list_jobs(request: Request) -> Response:
    """Your jobs, newest first, a page at a time."""
    query = Query(request, "status", "model", "cursor", "limit")
    wanted = Wanted(caller_of(request).owner, query.member("status", Status), query.text("model"))
    limit = query.number("limit", 1, LARGEST_PAGE) or PAGE
    cursor = query.text("cursor")
    try:
        page = context_of(request).jobs.listing.page
        listed = await run_in_threadpool(page, wanted, cursor, limit)
    except BadCursor:
        query.refuse("cursor", "This is no cursor of a page: give `next_cursor` as it came.")
    return json_response(listed, NO_STORE)


@router.delete(
    "/{job_id}",
    status_code=204,
    responses={
        204: {"description": "The job, its result and its files are gone"},
        **_PROBLEMS,
    },
)
async def delete_job(job_id: JobId, request: Request) -> Response:
    """Delete a job and all it holds, whatever it does. To stop it and keep its record, cancel it.

    Bytes that another job shares stay for that one.
    """
    await visible_soon(request, job_id)
    await run_in_threadpool(context_of(request).jobs.remove, job_id, Departure.DELETED)
    return Response(None, 204)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    responses={
        202: success("The job has ended as `cancelled`", "Job", "cancelled"),
        **problems(
            ProblemType.NOT_FOUND,
            ProblemType.GONE,
            ProblemType.ALREADY_ENDED,
            ProblemType.UNAVAILABLE,
        ),
    },
)
async def cancel_job(job_id: JobId, request: Request) -> Response:
    """Cancel a job. It ends at once; a worker that runs it drops it within seconds.

    A job that is cancelled already is answered as it is.
    """
    await visible_soon(request, job_id)
    status = await run_in_threadpool(context_of(request).jobs.cancel, job_id)
    if status not in (Status.CANCELLED, None):
        raise ProblemError(ProblemType.ALREADY_ENDED, f"The job has {status}.")
    found = await find(request, job_id)
    return json_response(found.body, NO_STORE, 202)


@router.put(
    "/{job_id}/pin",
    status_code=204,
    responses={
        204: {"description": "The job is kept for good"},
        **_PROBLEMS,
    },
)
async def pin_job(job_id: JobId, request: Request) -> Response:
    """Keep a job: its result neither expires nor makes room for others."""
    return await _pin(request, job_id, True)


@router.delete(
    "/{job_id}/pin",
    status_code=204,
    responses={
        204: {"description": "The job expires as others do"},
        **_PROBLEMS,
    },
)
async def unpin_job(job_id: JobId, request: Request) -> Response:
    """Let a job expire as others do. One that has ended is kept as long as they are from now on."""
    return await _pin(request, job_id, False)


async def find(request: Request, job_id: str) -> FoundJob:
    """A job of the caller's as it stands. Raises ProblemError: NOT_FOUND, GONE."""
    found = await context_of(request).lookup.find(job_id)
    if found is None or found.owner != caller_of(request).owner:
        raise_unknown(job_id)
    if isinstance(found, GoneJob):
        raise_gone(job_id, found.why)
    return found


async def _pin(request: Request, job_id: str, pinned: bool) -> Response:
    await visible_soon(request, job_id)
    await run_in_threadpool(context_of(request).jobs.store.pin, job_id, pinned)
    return Response(None, 204)


def _headers_of(job: Job) -> dict[str, str]:
    return NO_STORE if job.status.terminal else _POLL
