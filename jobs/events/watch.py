"""Those who wait for news of a job: one who wants every event, and one who wants to be woken."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from jobs.events.event import TERMINAL, Event
from jobs.view import GONE
from schemas.names import Happening

# Events that wait for one who does not take them; later ones are then read from the stream.
_MOST_WAITING = 32


@dataclass(frozen=True)
class Page:
    """What the store holds of a job after some event, and at that moment."""

    status: str
    events: Sequence[Event]
    is_whole: bool
    """Whether no later event is left for another page."""
    latest: Event | None

    @property
    def has_ended(self) -> bool:
        """Whether no event will follow the latest."""
        return self.status in TERMINAL

    @property
    def is_gone(self) -> bool:
        """Whether the job is there no more, or never was."""
        return not self.status or self.status in GONE


class Listener:
    """One who waits for news of one job. Used by one task, on the feed's event loop."""

    def __init__(self, job_id: str, leave: Callable[["Listener"], None]) -> None:
        self.job_id = job_id
        self._leave = leave
        self._waiter: asyncio.Future[None] | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once nothing that happens from now on is missed."""
        self.is_cut = False
        """Whether it was ended although more may happen to the job."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Want no more news."""
        self._leave(self)

    def cut(self) -> None:
        """End it."""
        self.is_cut = True
        self.open()
        self.wake()

    def open(self) -> None:
        """Let whoever waits for it to begin go on."""
        if not self.opened.done():
            self.opened.set_result(None)

    def wake(self) -> None:
        """Let the task that waits go on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hear(self, events: Sequence[Event]) -> None:
        """Take news."""
        raise NotImplementedError

    def miss(self) -> None:
        """From now on news may be missed, until it is woken."""
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        """Wait until woken, or for so long."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None


class Bell(Listener):
    """Rings when something happens to the job, or may have happened unheard."""

    _rung = False

    def hear(self, events: Sequence[Event]) -> None:
        """Ring."""
        self._rung = True

    def miss(self) -> None:
        """Ring."""
        self._rung = True

    async def wait(self, seconds: float) -> None:
        """Wait until it rings or has rung since the last call, or for so long."""
        if not self._rung and not self.is_cut and seconds > 0:
            await self._sleep(seconds)
        self._rung = False


class Watch(Listener):
    """Gets every event of a job, in order and once.

    Of events of progress that follow each other and were not yet taken only the last is kept. What
    it could not hear, because the connection was lost or it was not taking, it reads from the job's
    stream.
    """

    def __init__(
        self,
        job_id: str,
        after: str | None,
        leave: Callable[[Listener], None],
        read: Callable[["Watch", str | None], None],
    ) -> None:
        super().__init__(job_id, leave)
        self._read = read
        self._taken = after
        self._events: list[Event] = []
        self._is_behind, self._has_asked = True, False
        self.has_ended = False
        """Whether no event will follow those that are waiting."""
        self.is_gone = False
        """Whether the job is there no more."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to take, now or later."""
        ends = self.has_ended or self.is_gone or self.is_cut
        return ends and not self._events

    async def next(self, seconds: float) -> list[Event]:
        """What has happened since the last call; nothing when it is over or after so long."""
        if not self._events and not self.is_over:
            self.catch_up()
            await self._sleep(seconds)
        events, self._events = self._events, []
        if events:
            self._taken = events[-1].id
        return events

    def catch_up(self) -> None:
        """Ask for what was missed, if anything may have been."""
        if self._is_behind and not self._has_asked:
            self._has_asked = True
            self._read(self, self._taken)

    def hear(self, events: Sequence[Event]) -> None:
        """Take news, unless the page that was asked for will have it."""
        waiting = self._events
        for event in events:
            if event.is_departure:
                self.is_gone = True
            elif self._is_behind:
                continue
            elif waiting and event.is_progress and waiting[-1].is_progress:
                waiting[-1] = event
            else:
                waiting.append(event)
                self.has_ended = event.is_last
        if len(waiting) >= _MOST_WAITING:
            self._is_behind, self.has_ended = True, False

    def miss(self) -> None:
        """Be behind from now on."""
        self._is_behind, self._has_asked = True, False

    def turn(self, page: Page) -> None:
        """Take a page that was asked for; the news after it follow on it."""
        self._has_asked = False
        self.is_gone = page.is_gone
        # An event that the store never had is one of another store, or of one set back in time.
        is_foreign = not page.events and page.latest and page.latest.id != self._taken
        if self._taken is None or is_foreign:
            self._events = [] if page.latest is None else [_state(page.latest)]
            self._is_behind = False
        else:
            self._events = list(page.events)
            self._is_behind = not page.is_whole
        self.has_ended = page.has_ended and not self._is_behind
        self.open()
        self.wake()


def _state(latest: Event) -> Event:
    """How a job stands: each event tells all of it."""
    return replace(latest, kind=Happening.STATUS.value)
