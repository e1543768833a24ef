"""The watch over attempts that a runner is at, until they are over one way or another."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from jobs import Attempt, Jobs, StaleAttempt
from schemas.settings import Settings
from workers.channel import Message, attempts_message
from workers.endings import Ending
from workers.processes import RunnerProcess, describe_end

LOOK_INTERVAL = 1
"""Seconds between looks at whether a running job was cancelled or deleted."""

log = structlog.get_logger("workers.watch")


class Watch:
    """Hands attempts to a runner, keeps their leases and their time limit, and hears their end.

    `woken` is readable once a stop was asked for.
    """

    def __init__(
        self,
        jobs: Jobs,
        settings: Settings,
        runner: RunnerProcess,
        attempts: Sequence[Attempt],
        woken: int,
    ) -> None:
        self._jobs, self._settings, self._woken = jobs, settings, woken
        self._runner, self._attempts = runner, attempts
        self._report: Message = {}
        self._status = 0
        self._kill_at = time.monotonic() + settings.job_time_limit + settings.kill_grace
        self._renew_at = time.monotonic() + settings.lease_seconds / 3

    def begin(self) -> None:
        """Send the attempts to the runner; one that has died is noticed by `until_over`."""
        try:
            self._runner.channel.send(attempts_message(self._attempts))
        except OSError as error:
            log.warning("the runner does not listen", error=str(error))
            self._runner.kill()

    def until_over(self, renewed: Callable[[], None], stopped: Callable[[], bool]) -> Ending:
        """Wait until the attempts are over, one way or another, keeping their leases meanwhile.

        `renewed` is called when the leases have been renewed; `stopped` tells whether to stop.
        """
        withdrawn = False
        while True:
            if self._is_over():
                return self._ending(withdrawn)
            if stopped():
                self._runner.reap()
                return Ending.STOPPED
            if time.monotonic() >= self._kill_at:
                self._runner.reap()
                return Ending.WITHDRAWN if withdrawn else Ending.OVERDUE
            if not withdrawn:
                withdrawn = self._taken_away(renewed)

    @property
    def left_unusable(self) -> bool:
        """Whether the runner says that it can compute no more."""
        return bool(self._report.get("unusable"))

    @property
    def cause(self) -> str:
        """Why the runner left attempts unfinished, in its own words or by how it died."""
        return str(
            self._report.get("cause") or f"the runner ended with {describe_end(self._status)}"
        )

    def _is_over(self) -> bool:
        """Whether the runner has reported, or died, before it is time to look at the records."""
        left = max(0.0, self._kill_at - time.monotonic())
        try:
            message = self._runner.channel.receive(min(left, LOOK_INTERVAL), self._woken)
        except EOFError:
            self._status, _ = self._runner.reap()
            return True
        if message is None:
            return False
        self._report = message
        self._runner.models = message["models"]
        return True

    def _taken_away(self, renewed: Callable[[], None]) -> bool:
        """Keep the leases; if all are lost, ask the runner to drop its work, soon by force."""
        if self._holds_any(renewed):
            return False
        for attempt in self._attempts:
            log.warning("the job was taken away", job=attempt.job_id, attempt=attempt.number)
        self._runner.withdraw()
        self._kill_at = min(self._kill_at, time.monotonic() + self._settings.kill_grace)
        return True

    def _holds_any(self, renewed: Callable[[], None]) -> bool:
        """Whether any job is still to be run; the leases are renewed when it is time for that."""
        now = time.monotonic()
        try:
            if now < self._renew_at:
                return bool(self._jobs.store.held(self._attempts))
            self._renew_at = now + self._settings.lease_seconds / 3
            held = self._renew()
            renewed()
        except (StoreConnectionError, StoreTimeoutError) as error:
            log.warning("leases not renewed", job=self._attempts[0].job_id, error=str(error))
            return True
        return held > 0

    def _renew(self) -> int:
        """Renew the leases; how many are still held."""
        held = 0
        for attempt in self._attempts:
            # In company it may as well have ended; the runner notices if it was taken away.
            with suppress(StaleAttempt):
                self._jobs.store.renew(attempt)
                held += 1
        return held

    def _ending(self, withdrawn: bool) -> Ending:
        """What a report, or the death of the runner, means."""
        if self._report:
            unfinished = self._report["event"] == "unfinished"
            return Ending.UNFINISHED if unfinished else Ending.REPORTED
        if withdrawn:
            return Ending.WITHDRAWN
        past_limit = time.monotonic() >= self._kill_at - self._settings.kill_grace
        return Ending.OVERDUE if past_limit else Ending.DIED
