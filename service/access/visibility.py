"""Which jobs a caller may see: its own, and of those that are there no more that they were."""

from typing import NoReturn

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from jobs.store import Standing
from schemas.names import Departure, Status
from schemas.problem import ProblemError, ProblemType
from service.access.caller import caller_of
from service.context import context_of

_WHY = {
    Departure.DELETED: "it was deleted",
    Departure.EXPIRED: "it was kept as long as this service keeps jobs",
    Departure.EVICTED: "it made room for newer ones",
}


def visible(request: Request, job_id: str) -> Status:
    """Where a job of the caller's stands. Raises ProblemError: NOT_FOUND, GONE."""
    standing = context_of(request).jobs.store.standing(job_id)
    return require_visible(standing, job_id, caller_of(request).owner)


async def visible_soon(request: Request, job_id: str) -> Status:
    """`visible`, for a coroutine."""
    return await run_in_threadpool(visible, request, job_id)


def require_visible(standing: Standing | None, job_id: str, owner: str) -> Status:
    """The status of a job that is there and is the owner's. Raises as `visible`."""
    if standing is None or standing.owner != owner:
        raise_unknown(job_id)
    if isinstance(standing.status, Departure):
        raise_gone(job_id, standing.status)
    return standing.status


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
