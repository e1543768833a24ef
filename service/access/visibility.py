"""Which jobs a caller may see: its own, and of those that are there no more that they were."""

from typing import NoReturn

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from schemas.names import Departure
from schemas.problem import ProblemError, ProblemType
from service.access.caller import caller_of
from service.context import context_of

_WHY = {
    Departure.DELETED: "it was deleted",
    Departure.EXPIRED: "it was kept as long as this service keeps jobs",
    Departure.EVICTED: "it made room for newer ones",
}


def visible(request: Request, job_id: str) -> None:
    """See to it that a job is the caller's, and there. Raises ProblemError: NOT_FOUND, GONE."""
    standing = context_of(request).jobs.store.standing(job_id)
    if standing is None or standing.owner != caller_of(request).owner:
        raise_unknown(job_id)
    if isinstance(standing.status, Departure):
        raise_gone(job_id, standing.status)


async def visible_soon(request: Request, job_id: str) -> None:
    """`visible`, for a coroutine."""
    await run_in_threadpool(visible, request, job_id)


def raise_unknown(job_id: str) -> NoReturn:
    """Say that there is no such job."""
    raise ProblemError(
        ProblemType.NOT_FOUND, f"There is no job `{job_id[:60]}`. Is the id complete?"
    )


def raise_gone(job_id: str, why: Departure) -> NoReturn:
    """Say that there was such a job."""
    raise ProblemError(
        ProblemType.GONE,
        f"Job `{job_id[:60]}` is there no more: {_WHY[why]}. Send its request again.",
    )
