"""What can come of talking to a service, other than what was asked for: one tree."""

import math

from mambascope.visible import visible
from schemas.job import Job
from schemas.problem import FieldError, Problem, ProblemType


class MambascopeError(Exception):
    """Every error of the clients; the message says what happened and what to do."""


class RequestRefused(MambascopeError):  # noqa: N818 - it says what is the case
    """The service takes the request to be wrong; `problem` says why, and `errors` where."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(described(problem))
        self.problem = problem

    @property
    def errors(self) -> list[FieldError]:
        """Every part of the request that is wrong."""
        return self.problem.errors

    def __reduce__(self) -> tuple[type["RequestRefused"], tuple[Problem]]:
        return type(self), (self.problem,)


class Unauthenticated(RequestRefused):
    """The service wants a key that it knows: `Client(key=...)` or MAMBASCOPE_KEY."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.add_note("Give the key as `key`, or in MAMBASCOPE_KEY.")


class NotFound(RequestRefused):
    """There is no such job, model or file, or it belongs to another key."""


class JobGone(RequestRefused):
    """The job was there and is not any more: it was deleted, has expired, or made room for others.

    A submit raises it as well, where the job that its `idempotency_key` has made is gone.
    """


class RateLimited(RequestRefused):
    """Too much for now, and to wait for the end of it would take longer than `patience`."""

    def __init__(self, problem: Problem, retry_after: float) -> None:
        super().__init__(problem)
        self.retry_after = retry_after
        """Seconds after which it makes sense to ask again."""
        self.add_note(f"Ask again in {math.ceil(retry_after)} s.")

    def __reduce__(self) -> tuple[type["RateLimited"], tuple[Problem, float]]:  # type: ignore[override]
        return type(self), (self.problem, self.retry_after)


class ServiceFault(MambascopeError):  # noqa: N818 - it says what is the case
    """The service made a mistake, or sent what cannot be used."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Unreachable(MambascopeError):  # noqa: N818 - it says what is the case
    """No Mambascope answers at the address."""


class TimedOut(MambascopeError):  # noqa: N818 - it says what is the case
    """The job has not ended within the time given; it goes on."""


class JobEndedWithoutResult(MambascopeError):  # noqa: N818 - it says what is the case
    """The job has ended, and there is no result; `job` is as it stood."""

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job


class JobFailed(JobEndedWithoutResult):
    """The job failed; `problem` says why."""

    def __init__(self, job: Job, problem: Problem) -> None:
        super().__init__(job, f"Job {job.id} failed. {described(problem)}")
        self.problem = problem

    def __reduce__(self) -> tuple[type["JobFailed"], tuple[Job, Problem]]:
        return type(self), (self.job, self.problem)


class JobCancelled(JobEndedWithoutResult):
    """The job was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"Job {job.id} was cancelled.")

    def __reduce__(self) -> tuple[type["JobCancelled"], tuple[Job]]:
        return type(self), (self.job,)


class TensorsNotStored(MambascopeError):  # noqa: N818 - it says what is the case
    """The job left no tensors."""


_KINDS: dict[str, type[RequestRefused]] = {
    ProblemType.UNAUTHENTICATED.uri: Unauthenticated,
    ProblemType.NOT_FOUND.uri: NotFound,
    ProblemType.GONE.uri: JobGone,
}


def refusal(problem: Problem) -> RequestRefused:
    """The error that a problem about the request is."""
    return _KINDS.get(problem.type, RequestRefused)(problem)


def described(problem: Problem) -> str:
    """A problem in words: its title, its detail, and a line for each part that is wrong."""
    lines = [f"{visible(problem.title)}. {visible(own_detail(problem))}".rstrip()]
    lines += [f"  {visible(_place(error))}: {visible(error.detail)}" for error in problem.errors]
    return "\n".join(lines)


def own_detail(problem: Problem) -> str:
    """A problem's detail; empty where it is, as often, one of its errors again."""
    is_said = any(error.detail in problem.detail for error in problem.errors)
    return "" if is_said else problem.detail


def _place(error: FieldError) -> str:
    """Where an error is, as Python writes it: `/neurons/top_k` is `neurons.top_k`."""
    if error.parameter is not None:
        return error.parameter
    written = ""
    for part in error.pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        written += f"[{name}]" if name.isdecimal() else f".{name}"
    return written.removeprefix(".") or "request"
