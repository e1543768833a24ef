"""Delivers webhooks beside the requests of the service, on its event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from redis.exceptions import RedisError

from jobs.outbox import RETRY_DELAYS, Due, Outbox, Outcome, Parcel
from schemas.job import Delivery
from schemas.settings import Settings
from service.webhooks.addresses import UnusableUrl, receiver_of
from service.webhooks.lanes import Lanes
from service.webhooks.sending import Sender

# Deliveries under way at a time, in all.
_AT_ONCE = 200
# Due jobs that are looked at in one round trip.
_PAGE = 250
# Seconds between two looks into the outbox, and while the store does not answer.
_POLL = 0.5
_STORE_PAUSE = 5.0
# Seconds that the end of the service waits for the store; what is not released becomes due later.
_RELEASE_TIMEOUT = 1.0
# Seconds until what has not heard that it is to end is told again.
_CANCEL_AGAIN = 0.05
# Answers that say that the receiver, or what is before it, has too much to do.
_OVERLOADED = frozenset({429, 502, 503, 504})

_log = structlog.get_logger("service.webhooks")


class Deliverer:
    """Sends what is due to all receivers at once; a slow one delays nobody else's.

    `delays` are the seconds before each further attempt.
    """

    def __init__(self, settings: Settings, delays: Sequence[float] = RETRY_DELAYS) -> None:
        self._outbox = Outbox(settings, delays)
        self._sender = Sender(settings)
        self._lanes = Lanes()
        # Each job whose turn it is, as this process last held it.
        self._under_way: dict[str, Due] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver meanwhile. At the end what is under way is given up, and is due again."""
        self._begin(self._run())
        try:
            yield
        finally:
            await self._give_up()
            unsent = [*self._under_way.values(), *self._lanes.waiting()]
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(_RELEASE_TIMEOUT):
                    await self._outbox.release(unsent)
            await self._outbox.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # Held, since the event loop does not hold its tasks.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_up(self) -> None:
        """Cancel all tasks until they have ended, and those that they begin meanwhile.

        Once is not enough: redis-py sends with `asyncio.wait_for`, which before Python 3.12 loses a
        cancellation that comes as it completes (python/cpython#86296).
        """
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_AGAIN)

    async def _run(self) -> None:
        while True:
            pause = _POLL
            try:
                await self._look()
            except RedisError as error:
                _log.error("the outbox does not answer", error=_shown(error))
                pause = _STORE_PAUSE
            except Exception:  # one look must not be the last
                _log.exception("the outbox could not be read")
                pause = _STORE_PAUSE
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        """Put every due job into its lane."""
        page = _PAGE
        while page == _PAGE:
            held = await self._outbox.hold(_PAGE)
            page = len(held)
            unknown = [job for job in held if not self._lanes.renew(job)]
            for due in await self._outbox.addressed(unknown):
                self._lanes.put(_host_of(due.url), due)
            self._start()

    def _start(self) -> None:
        """Begin as many deliveries as may be under way."""
        while len(self._under_way) < _AT_ONCE and (due := self._lanes.take()):
            self._under_way[due.job_id] = due
            self._begin(self._deliver(due))

    async def _deliver(self, due: Due) -> None:
        failed: bool | None = None
        try:
            parcel = await self._outbox.claim(due)
            if parcel is not None:
                self._under_way[due.job_id] = parcel
                failed = await self._attempt(parcel)
        except RedisError as error:
            # The claim runs out, and it is sent again.
            _log.error("webhook not recorded", job=due.job_id, error=_shown(error))
        except Exception:
            _log.exception("webhook not recorded", job=due.job_id)
        del self._under_way[due.job_id]
        self._lanes.done(due.job_id, failed=failed)
        self._start()

    async def _attempt(self, parcel: Parcel) -> bool:
        """Make one attempt and record it; whether its host is to be spared."""
        began = time.perf_counter()
        try:
            outcome = await self._sender.send(parcel)
        except Exception:  # a bug must end with the last attempt, too
            _log.exception("webhook not sent", job=parcel.job_id)
            outcome = Outcome(error="the service made a mistake")
        ms = round((time.perf_counter() - began) * 1000, 1)
        delivery = await self._outbox.settle(parcel, outcome)
        _tell(parcel, delivery, ms)
        return outcome.status is None or outcome.status in _OVERLOADED


def _tell(parcel: Parcel, delivery: Delivery, ms: float) -> None:
    """One line an attempt. No path and no query, which may hold what gives access."""
    _log.info(
        "webhook",
        job=parcel.job_id,
        host=_host_of(parcel.url),
        attempt=delivery.attempt,
        status=delivery.status,
        error=delivery.error,
        next_at=delivery.next_at,
        ms=ms,
    )


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _host_of(url: str) -> str:
    """The host and port that a lane is of; those that name none have one together."""
    with suppress(UnusableUrl):
        return receiver_of(url).authority
    return ""
