"""What happens to a job, as it happens."""

import re

from fastapi import Request, Response

from schemas.names import JOBS_PATH
from schemas.problem import FieldError, ProblemError, ProblemType
from service.context import context_of
from service.following.event_stream import EventStream
from service.openapi.answers import EVENTS, problems
from service.openapi.requests import LAST_EVENT_PARAMETER
from service.query import Query
from service.responses import NO_STORE
from service.routes import new_router
from service.routes.jobs import JobId, PlainRoute, find

router = new_router(prefix=JOBS_PATH, tags=["jobs"], route_class=PlainRoute)

_LAST_EVENT = "Last-Event-ID"
# Streams count to 2^64, which has twenty digits.
_EVENT_ID = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@router.get(
    "/{job_id}/events",
    openapi_extra={"parameters": [LAST_EVENT_PARAMETER]},
    responses={
        200: EVENTS,
        204: {"description": "The job has ended and the client has its last event"},
        **problems(
            ProblemType.INVALID_REQUEST,
            ProblemType.NOT_FOUND,
            ProblemType.GONE,
            ProblemType.UNAVAILABLE,
        ),
    },
)
async def watch_job(job_id: JobId, request: Request) -> Response:
    """The job's events as they happen (server-sent events), ending with the one it ends with.

    The first event tells how the job stands now. With `Last-Event-ID`, which an `EventSource` sends
    when it connects again, the stream goes on after that event instead; `0` gives all that is kept,
    about the last thousand. Events of progress that follow each other faster than you read may
    be left out but for the last.
    """
    Query(request)
    after = _last_event(request)
    await find(request, job_id)
    watch = await context_of(request).feed.watch(job_id, after)
    if watch.is_gone:
        watch.close()
        await find(request, job_id)
    if after is not None and watch.has_ended and watch.is_over:
        watch.close()
        return Response(None, 204, NO_STORE)
    return EventStream(watch)


def _last_event(request: Request) -> str | None:
    """The event that the client got last. Raises ProblemError(INVALID_REQUEST)."""
    given = [value for value in request.headers.getlist(_LAST_EVENT) if value]
    if not given:
        return None
    parts = _EVENT_ID.fullmatch(given[0]) if len(given) == 1 else None
    numbers = [int(part or 0) for part in parts.groups()] if parts else []
    if not numbers:
        detail = "Give the `id` of one event as it came, or 0 for all that is kept."
        raise ProblemError.of_field(FieldError(parameter=_LAST_EVENT, detail=detail))
    return "-".join(map(str, numbers))
