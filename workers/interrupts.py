"""Stopping a job from outside it: exceptions raised in the runner's main thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from schemas.problem import Problem, ProblemType
from schemas.settings import Settings

# The time limit is raised again this often, should the job's own code swallow the first.
_REPEAT_SECONDS = 5.0


class JobInterrupt(BaseException):
    """The running job must stop. Not an Exception, so that no `except Exception` eats it."""


class TimeLimitReached(JobInterrupt):
    """The job has run for as long as it may."""


class Withdrawn(JobInterrupt):
    """The attempt no longer belongs to this worker: SIGUSR1 from the supervisor."""


class Interrupts:
    """Turns SIGALRM and SIGUSR1 into exceptions while a job runs; ignores them otherwise."""

    def __init__(self) -> None:
        self._armed = False
        self._raised: JobInterrupt | None = None
        signal.signal(signal.SIGALRM, self._time_is_up)
        signal.signal(signal.SIGUSR1, self._withdraw)

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raise TimeLimitReached in the block after `seconds`, and Withdrawn when asked to."""
        self._armed, self._raised = True, None
        signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_SECONDS)
        try:
            yield
        except Exception as error:
            # Compiled libraries turn an exception they did not expect into one of their own.
            if self._raised is not None:
                raise self._raised from error
            raise
        finally:
            self.disarm()

    def disarm(self) -> None:
        """Raise nothing more. An interrupt may cut off `limit` itself: its catcher calls this."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _time_is_up(self, signum: int, frame: FrameType | None) -> None:
        self._raise(TimeLimitReached())

    def _withdraw(self, signum: int, frame: FrameType | None) -> None:
        self._raise(Withdrawn())

    def _raise(self, interrupt: JobInterrupt) -> None:
        if self._armed:
            self._raised = interrupt
            raise interrupt


def time_limit_problem(settings: Settings) -> Problem:
    """The problem of a job that ran for too long."""
    return Problem.of(
        ProblemType.TIME_LIMIT,
        f"The job ran for {settings.job_time_limit} s, the limit of this service: send fewer or "
        "shorter texts, or fewer layers.",
    )
