"""Long polls: a question for a job that is answered once there is something new to say."""

import asyncio
import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.types import Receive

from jobs.events.feed import Feed
from service.following.event_stream import cut_when_left
from service.following.lookup import FoundJob
from service.query import Query

# Seconds after which a queued job is looked at again: its place changes without an event of it.
_PLACE_CHANGES = 1.0
# As JSON writes numbers.
_SECONDS = re.compile(r"[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")


def wait_of(request: Request, most: int) -> float:
    """Seconds that a client will wait: its `wait`, or the most that this service lets it.

    Raises ProblemError(INVALID_REQUEST).
    """
    if not request.scope["query_string"]:
        return 0.0
    query = Query(request, "wait")
    given = query.text("wait") or "0"
    if _SECONDS.fullmatch(given) is None:
        query.refuse("wait", "Give a number of seconds, 0 or more.")
    return min(float(given), most)


async def change_of(
    feed: Feed,
    job_id: str,
    look: Callable[[], Awaitable[FoundJob]],
    before: FoundJob,
    seconds: float,
    receive: Receive,
) -> FoundJob:
    """The job as soon as it is another than `before`, or as it is when the time is over.

    It ends early when the client leaves or the service stops. Raises RedisError, and what `look`
    raises.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with await feed.bell(job_id) as bell:
        leaving = asyncio.create_task(cut_when_left(receive, bell))
        try:
            while True:
                found = await look()
                left = end - loop.time()
                if found.tag != before.tag or left <= 0 or bell.is_cut:
                    return found
                await bell.wait(min(left, _PLACE_CHANGES) if found.is_queued else left)
        finally:
            leaving.cancel()
