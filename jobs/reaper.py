"""Heals what dead processes left: silent workers, lost tickets, bytes that no one will read."""

import logging
import threading
from dataclasses import dataclass

from redis import RedisError

from jobs.artifacts import ArtifactStore
from jobs.queue import JobQueue
from jobs.store import JobStore
from schemas.names import Status
from schemas.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What one sweep did, as job ids."""

    requeued: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    resubmitted: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()


class Reaper:
    """Puts right what a kill -9, anywhere, left half done.

    Every step is a compare-and-set or can be repeated, so any number of reapers may sweep at once
    and each may die at any point.
    """

    def __init__(self, store: JobStore, queue: JobQueue, artifacts: ArtifactStore) -> None:
        self._store = store
        self._queue = queue
        self._artifacts = artifacts

    def sweep(self) -> Sweep:
        """Take jobs back from silent workers, resend lost tickets, drop dead attempts' bytes.

        Cost: a handful of round trips plus one read of the queue. Raises RedisError, OSError.
        """
        requeued, failed = self._take_back()
        resubmitted = self._resend()
        return Sweep(requeued, failed, resubmitted, self._discard())

    def _take_back(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        outcomes: dict[Status, list[str]] = {Status.QUEUED: [], Status.FAILED: []}
        for job_id, token in self._store.lost():
            status = self._store.give_up(
                job_id, token, "it fell silent and its lease ran out", expired_only=True
            )
            if status is None:
                continue
            outcomes[status].append(job_id)
            if status is Status.QUEUED:
                self._queue.submit(job_id, first=True)
            self._artifacts.discard(job_id, token)
        return tuple(outcomes[Status.QUEUED]), tuple(outcomes[Status.FAILED])

    def _resend(self) -> tuple[str, ...]:
        # Queued first: a job accepted in between is then in neither, or in `waiting` only.
        queued = set(self._store.queued())
        unsent = self._store.unsent(queued - self._queue.waiting())
        for job_id in unsent:
            self._queue.submit(job_id, first=True)
        self._queue.tidy(queued)
        return tuple(unsent)

    def _discard(self) -> tuple[str, ...]:
        discarded = []
        for job_id, token in self._store.dead_attempts():
            self._artifacts.discard(job_id, token)
            self._store.forget_attempt(job_id, token)
            discarded.append(job_id)
        return tuple(discarded)


class ReaperThread(threading.Thread):
    """Sweeps three times per lease until stopped; a failing sweep is logged and tried again."""

    def __init__(self, reaper: Reaper, settings: Settings) -> None:
        super().__init__(name="reaper", daemon=True)
        self._reaper = reaper
        self._interval = settings.lease_seconds / 3
        self._stopping = threading.Event()

    def run(self) -> None:
        """Sweep until `stop`."""
        while not self._stopping.wait(self._interval):
            try:
                done = self._reaper.sweep()
            except (RedisError, OSError):
                _log.exception("a sweep failed; the next one tries again")
                continue
            if done != Sweep():
                _log.warning("swept: %s", done)

    def stop(self) -> None:
        """End the thread after the sweep it may be in."""
        self._stopping.set()
        if self.is_alive():
            self.join()
