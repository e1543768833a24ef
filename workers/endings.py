"""How the watch over attempts can end, and what then becomes of their records."""

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto

import structlog

from jobs import Attempt, Jobs, StaleAttempt
from schemas.names import Status
from schemas.settings import Settings
from workers.interrupts import time_limit_problem

log = structlog.get_logger("workers.endings")


class Ending(Enum):
    """How the watch over attempts ended."""

    REPORTED = auto()
    UNFINISHED = auto()
    DIED = auto()
    OVERDUE = auto()
    WITHDRAWN = auto()
    STOPPED = auto()


def settle(
    jobs: Jobs, settings: Settings, attempts: Sequence[Attempt], ending: Ending, cause: str
) -> None:
    """Bring the records in line with how the attempts ended; those that are over stay as is.

    `cause` says why the runner died, or why it left some unfinished. Each attempt goes to the head
    of the queue, so the first of them goes last.
    """
    for attempt in reversed(attempts):
        match ending:
            case Ending.DIED | Ending.UNFINISHED:
                _give_back(jobs, attempt, cause)
            case Ending.STOPPED:
                _give_back(jobs, attempt, "the worker was stopped", died=False)
            case Ending.OVERDUE if len(attempts) > 1:
                _give_back(jobs, attempt, "the jobs beside it ran past their time limit")
            case Ending.OVERDUE:
                with suppress(StaleAttempt):
                    jobs.store.fail(attempt, time_limit_problem(settings))


def _give_back(jobs: Jobs, attempt: Attempt, cause: str, *, died: bool = True) -> None:
    status = jobs.store.give_up(attempt.job_id, attempt.token, cause, died=died)
    if status is not None:
        log.warning("attempt given up", job=attempt.job_id, cause=cause, status=status)
    if status is Status.QUEUED:
        jobs.queue.submit(attempt.job_id, first=True)
