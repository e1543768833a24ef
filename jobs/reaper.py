"""Heals what dead processes left: silent workers, lost tickets, bytes that no one will read."""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass

from redis import RedisError

from jobs.hub import Jobs
from schemas.names import Departure, Status
from schemas.settings import Settings

# Jobs removed in one sweep, for each reason: the others go in the next.
_MOST_REMOVED = 1000

_OVERFULL = (
    "pinned jobs have %d bytes more than MAMBASCOPE_MAX_STORED_BYTES, so other results go as soon "
    "as they are there: unpin or delete some, or raise it"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What one sweep did, as job ids; `discarded` had bytes that no one would read again."""

    requeued: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    resubmitted: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()

    @property
    def healed(self) -> bool:
        """Whether something had gone wrong that is right now."""
        return bool(self.requeued or self.failed or self.resubmitted)


class Reaper:
    """Puts right what a kill -9, anywhere, left half done.

    Every step is a compare-and-set or can be repeated, so any number of reapers may sweep at once
    and each may die at any point.
    """

    def __init__(self, jobs: Jobs, most_bytes: int | None = None) -> None:
        self._jobs = jobs
        self._indexes, self._queue = jobs.indexes, jobs.queue
        self._most_bytes = most_bytes
        self._is_filled = False

    def sweep(self) -> Sweep:
        """Take jobs back from silent workers, resend lost tickets, drop what is no more to be kept.

        Cost: a handful of round trips plus one read of the queue. Raises RedisError, OSError.
        """
        requeued, failed = self._take_back()
        resubmitted = self._resend()
        expired = self._expire()
        evicted = self._evict()
        discarded = tuple(self._jobs.discard_garbage())
        return Sweep(requeued, failed, resubmitted, discarded, expired, evicted)

    def excess(self) -> int:
        """Bytes above the budget that pinned jobs have alone. Raises RedisError."""
        if self._most_bytes is None or self._indexes.oldest(1):
            return 0
        return max(0, self._indexes.stored_bytes() - self._most_bytes)

    def _take_back(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        outcomes: dict[Status, list[str]] = {Status.QUEUED: [], Status.FAILED: []}
        for job_id, token in self._indexes.lost():
            status = self._jobs.store.give_up(
                job_id, token, "it fell silent and its lease ran out", expired_only=True
            )
            if status is None:
                continue
            outcomes[status].append(job_id)
            if status is Status.QUEUED:
                self._queue.submit(job_id, first=True)
            # What cannot go now is garbage as well, and is tried again.
            with suppress(OSError):
                self._jobs.artifacts.discard(job_id, token)
        return tuple(outcomes[Status.QUEUED]), tuple(outcomes[Status.FAILED])

    def _resend(self) -> tuple[str, ...]:
        # Queued first: a job accepted in between is then in neither, or in `waiting` only.
        queued = self._indexes.queued()
        # Any ticket serves any job; where there are too few, those that come last have none.
        missing = len(queued) - len(self._queue.waiting())
        unsent = self._indexes.unsent(set(queued[-missing:]) if missing > 0 else set())
        for job_id in unsent:
            self._queue.submit(job_id, first=True)
        self._queue.tidy(set(queued))
        return tuple(unsent)

    def _expire(self) -> tuple[str, ...]:
        overdue = self._indexes.overdue(_MOST_REMOVED)
        return tuple(one for one in overdue if self._jobs.take_away(one, Departure.EXPIRED))

    def _evict(self) -> tuple[str, ...]:
        """Remove the oldest results until what is stored is within the budget."""
        evicted: list[str] = []
        if self._most_bytes is None or self._indexes.stored_bytes() <= self._most_bytes:
            return ()
        if not self._is_filled:
            self._jobs.store.fill_spare()
            self._is_filled = True
        for job_id in self._indexes.oldest(_MOST_REMOVED):
            if self._indexes.stored_bytes() <= self._most_bytes:
                break
            if self._jobs.take_away(job_id, Departure.EVICTED):
                evicted.append(job_id)
        return tuple(evicted)


class ReaperThread(threading.Thread):
    """Sweeps three times per lease until stopped; a failing sweep is logged and tried again."""

    def __init__(self, reaper: Reaper, settings: Settings) -> None:
        super().__init__(name="reaper", daemon=True)
        self._reaper = reaper
        self._interval = settings.lease_seconds / 3
        self._stopping = threading.Event()
        self._is_overfull = False

    def run(self) -> None:
        """Sweep until `stop`."""
        while not self._stopping.wait(self._interval):
            try:
                done, excess = self._reaper.sweep(), self._reaper.excess()
            except (RedisError, OSError):
                _log.exception("a sweep failed; the next one tries again")
                continue
            if done != Sweep():
                level = logging.WARNING if done.healed else logging.INFO
                _log.log(level, "swept: %s", {what: ids for what, ids in vars(done).items() if ids})
            if excess and not self._is_overfull:
                _log.error(_OVERFULL, excess)
            self._is_overfull = excess > 0

    def stop(self) -> None:
        """End the thread after the sweep it may be in."""
        self._stopping.set()
        if self.is_alive():
            self.join()
