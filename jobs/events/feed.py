"""What happens to jobs, told to all who watch them in this process over one connection.

Each transition appends its event to the job's stream and publishes it, in one script. The feed
hears what is published; a stream is read where somebody begins, comes back, or was not reached:
after a lost connection each watch reads on from the last event it has given out.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

from jobs.connect import BACKOFF, RETRIES, text
from jobs.events.event import Event
from jobs.events.line import Line
from jobs.events.watch import Bell, Listener, Page, Watch
from jobs.keys import Keys
from jobs.wire import command
from schemas.settings import Settings

# Seconds: for a watch to begin, and for the connection to stay when nobody listens any more.
_OPENING = 5.0
_LINGER = 10.0
_PAGE = 100
# Listeners woken in one turn of the event loop. Waking thousands takes a while, in turns with all
# else there is to do, and is followed by a rest as long, so that it takes half of the time at most;
# the rest has an end, in seconds, because all else may be what took so long.
_WOKEN_AT_ONCE = 32
_LONGEST_REST = 0.1

_log = logging.getLogger(__name__)


class Feed:
    """Events of jobs for whoever watches them. All on one event loop.

    It connects when the first listener comes and lets the connection go some time after the last.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url.get_secret_value()
        self._keys = Keys(settings.key_prefix)
        self._listeners: dict[str, set[Listener]] = {}
        self._reads: dict[tuple[str, str | None], list[Watch]] = {}
        self._news: dict[str, list[Event]] = {}
        self._due: dict[Listener, None] = {}
        self._round: asyncio.TimerHandle | None = None
        self._rested_at = 0.0
        self._line: Line | None = None
        self._is_live = False
        self._following: asyncio.Task[None] | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def listeners(self) -> int:
        """How many listen at present."""
        return sum(map(len, self._listeners.values()))

    async def watch(self, job_id: str, after: str | None = None) -> Watch:
        """A watch of a job that goes on after an event; None: from how the job stands now.

        What was trimmed from the stream is left out. Close it when it is needed no more.
        Raises RedisError when the store does not answer.
        """
        watch = Watch(job_id, after, self._leave, self._read)
        self._join(watch)
        watch.catch_up()
        await self._opened(watch)
        return watch

    async def bell(self, job_id: str) -> Bell:
        """A bell that hears of everything from now on. Close it; raises as `watch`."""
        bell = Bell(job_id, self._leave)
        self._join(bell)
        if self._is_live:
            bell.open()
        await self._opened(bell)
        return bell

    def close(self) -> None:
        """End every watch and let the connection go; nobody can join any more."""
        self._is_closed = True
        for listener in self._all():
            listener.cut()
        self._stop()

    # Listeners

    def _join(self, listener: Listener) -> None:
        if self._is_closed:
            raise StoreConnectionError("the feed is closed")
        self._listeners.setdefault(listener.job_id, set()).add(listener)
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    def _leave(self, listener: Listener) -> None:
        alike = self._listeners.get(listener.job_id, set())
        alike.discard(listener)
        if not alike:
            self._listeners.pop(listener.job_id, None)
        if not self._listeners and self._following is not None and self._rest is None:
            self._rest = asyncio.get_running_loop().call_later(_LINGER, self._stop)

    def _all(self) -> list[Listener]:
        return [listener for alike in self._listeners.values() for listener in alike]

    async def _opened(self, listener: Listener) -> None:
        try:
            async with asyncio.timeout(_OPENING):
                await listener.opened
            if self._is_closed:
                raise StoreConnectionError("the feed was closed")
        except BaseException as error:
            listener.close()
            if isinstance(error, TimeoutError):
                raise StoreConnectionError(f"no subscription in {_OPENING:g} s") from None
            raise

    # The connection

    async def _follow(self) -> None:
        """Be subscribed, again and again, until cancelled."""
        failures = 0
        while True:
            try:
                self._line = await Line.open(
                    self._url,
                    self._keys.changes,
                    on_ready=self._begin,
                    on_message=self._collect,
                    on_pause=self._spread,
                )
                reason = await self._line.lost
            except (RedisError, OSError) as error:
                reason = error
            failures = 1 if self._is_live else failures + 1
            if failures == 1:
                _log.warning("the subscription to changes is lost: %s", reason)
            self._lose()
            await asyncio.sleep(BACKOFF.compute(min(failures, RETRIES)))

    def _begin(self, _: Any) -> None:
        """The subscription stands: let everybody look at what they have missed."""
        self._is_live = True
        for job_id, after in self._reads:
            self._ask(job_id, after)
        everybody = self._all()
        for bell in everybody:
            if isinstance(bell, Bell):
                bell.open()
        self._wake(everybody)

    def _lose(self) -> None:
        self._line = None
        self._is_live = False
        self._reads.clear()
        self._news.clear()
        for listener in self._all():
            listener.miss()

    def _stop(self) -> None:
        self._rest = None
        if self._following is not None:
            self._following.cancel()
            self._following = None
        if self._line is not None:
            self._line.close()
        self._lose()

    # Streams

    def _read(self, watch: Watch, after: str | None) -> None:
        """Ask for a page of the job's stream; one answer serves all that stand at one place."""
        asking = self._reads.setdefault((watch.job_id, after), [])
        asking.append(watch)
        if len(asking) == 1 and self._is_live:
            self._ask(watch.job_id, after)

    def _ask(self, job_id: str, after: str | None) -> None:
        assert self._line is not None
        events = self._keys.events(job_id)
        request = [
            command("MULTI"),
            command("HGET", self._keys.record(job_id), "status"),
            command("XREVRANGE", events, "+", "-", "COUNT", "1"),
        ]
        if after is not None:
            request.append(command("XREAD", "COUNT", str(_PAGE), "STREAMS", events, after))
        request.append(command("EXEC"))
        self._line.ask(
            b"".join(request), len(request), lambda found: self._turn(job_id, after, found)
        )

    def _turn(self, job_id: str, after: str | None, found: list[Any]) -> None:
        status, latest, *read = found
        entries = _entries_of(read)
        page = Page(
            status=text(status or b""),
            events=[Event.stored(entry) for entry in entries],
            is_whole=len(entries) < _PAGE,
            latest=Event.stored(latest[0]) if latest else None,
        )
        for watch in self._reads.pop((job_id, after), ()):
            watch.turn(page)

    # News

    def _collect(self, message: bytes) -> None:
        job_id, event = Event.told(message)
        if job_id not in self._listeners:
            return
        news = self._news.setdefault(job_id, [])
        if news and event.is_progress and news[-1].is_progress:
            news.pop()
        news.append(event)

    def _spread(self) -> None:
        """Tell what has come together to all whom it concerns."""
        if not self._news:
            return
        news, self._news = self._news, {}
        for job_id, events in news.items():
            alike = self._listeners.get(job_id, ())
            for listener in alike:
                listener.hear(events)
            self._wake(alike)

    # Waking

    def _wake(self, listeners: Iterable[Listener]) -> None:
        self._due.update(dict.fromkeys(listeners))
        if self._due and self._round is None:
            self._round = asyncio.get_running_loop().call_at(self._rested_at, self._go_round)

    def _go_round(self) -> None:
        due, self._due = deque(self._due), {}
        self._wake_some(due, asyncio.get_running_loop().time())

    def _wake_some(self, due: deque[Listener], began: float) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(len(due), _WOKEN_AT_ONCE)):
            due.popleft().wake()
        if due:
            loop.call_soon(self._wake_some, due, began)
            return
        now = loop.time()
        self._round, self._rested_at = None, now + min(now - began, _LONGEST_REST)
        self._wake(())


def _entries_of(read: list[Any]) -> list[Any]:
    """The entries in an answer to XREAD of one stream; RESP 3 answers with a map, or null."""
    if not read or not read[0]:
        return []
    (entries,) = dict(read[0]).values()
    return list(entries)
