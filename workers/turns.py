"""Which jobs a worker runs next: the one whose turn it is, and those to run beside it."""

import time

from jobs import Attempt, Jobs
from schemas.settings import Settings

# Seconds to wait for more small jobs where some are waiting already: a client that posts many is
# then still at it. A job that comes alone never waits.
_GATHERING_WINDOW = 0.005


class Turns:
    """Starts jobs in the name of one worker."""

    def __init__(self, jobs: Jobs, settings: Settings, worker: str) -> None:
        self._jobs, self._settings, self._worker = jobs, settings, worker

    def start_next(self) -> list[Attempt]:
        """Start the job whose turn it is and those to run beside it; none if none is queued."""
        while (job_id := self._jobs.indexes.first_queued()) is not None:
            attempts = self._start(job_id, self._companions(job_id))
            if attempts:
                return attempts
        return []

    def _companions(self, job_id: str) -> list[str]:
        """Jobs to run beside this one; where there are any, more may be about to come."""
        found = self._jobs.gathering.companions(job_id)
        if 0 < len(found) < self._settings.jobs_together - 1:
            time.sleep(_GATHERING_WINDOW)
            found = self._jobs.gathering.companions(job_id)
        return found

    def _start(self, job_id: str, companions: list[str]) -> list[Attempt]:
        """Start a job and, if it starts, its companions."""
        start, in_company = self._jobs.store.start, bool(companions)
        attempt = start(job_id, self._worker, in_company=in_company)
        if attempt is None:
            return []
        started = (start(other, self._worker, in_company=True) for other in companions)
        beside = [other for other in started if other is not None]
        if beside:
            self._jobs.queue.withdraw(len(beside))
        return [attempt, *beside]
