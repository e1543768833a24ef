"""Talking to a service: submit a job, follow it to its end, fetch what it left.

Nothing that a service sends is used as an address: every path is made here from ids and names.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from schemas.job import Artifact, ArtifactList, Job
from schemas.names import API_VERSION
from schemas.problem import Problem

JOBS = f"/{API_VERSION}/jobs"

# Seconds. How long a service may be away while a job runs there: a restart takes a few.
PATIENCE = 60.0
_HTTP_TIMEOUT = 60.0
_ASK_AFTER = 1.0
_LONGEST_PAUSE = 300.0
# What a proxy or the service itself answers while it is away or has too much to do.
_AWAY = frozenset({429, 502, 503, 504})

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class SubmittingError(Exception):
    """An exchange with the service that came to nothing; the message says why."""


class Refused(SubmittingError):  # noqa: N818 - it says what is the case
    """The service takes the request to be wrong, and its problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Broke(SubmittingError):  # noqa: N818 - it says what is the case
    """The service made a mistake, or sent what cannot be used."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Unreachable(SubmittingError):  # noqa: N818 - it says what is the case
    """No Mambascope answers at the address."""


class TimedOut(SubmittingError):  # noqa: N818 - it says what is the case
    """The job has not ended within the time given."""


class _Away(Exception):  # noqa: N818 - it says what is the case
    """No answer this time; asking again after so many seconds may help."""

    def __init__(self, why: str, ask_after: float) -> None:
        super().__init__(why)
        self.ask_after = ask_after


@dataclass(frozen=True)
class Standing:
    """A job as it stood, and the seconds after which asking again makes sense."""

    job: Job
    ask_after: float


@dataclass(frozen=True)
class Service:
    """A running service. `away` is told when it does not answer and will be asked again."""

    http: httpx.Client
    patience: float = PATIENCE
    away: Callable[[str], None] = field(default=lambda line: None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @property
    def url(self) -> str:
        """Its address, without a password that it may hold."""
        return str(self.http.base_url.copy_with(userinfo=b"")).rstrip("/")

    def location(self, job_id: str) -> str:
        """The address of a job."""
        return f"{self.url}{_path(job_id)}"

    def submit(self, request: Mapping[str, Any]) -> Standing:
        """Submit a request. Raises Refused, Broke and Unreachable.

        A lost connection is not tried again, since the job may have been accepted.
        """
        # ASCII, so that halves of characters reach the service, which says what is wrong.
        body = json.dumps(request).encode("ascii")
        headers = {"Content-Type": "application/json"}

        def post() -> Standing:
            return _standing(self._check(self.http.post(JOBS, content=body, headers=headers)))

        try:
            return self._patiently(post)
        except httpx.TransportError as error:
            said = f"Nothing answers at {self.url} ({_reason(error)})."
            if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                said = f"The connection to {self.url} was lost; the job may have been accepted."
            raise Unreachable(said) from error

    def look(self, job_id: str, deadline: float = float("inf")) -> Standing:
        """A job as it stands; asked for until the deadline, on `clock`, where the service is away.

        Raises Refused when there is no such job, Broke, Unreachable and TimedOut.
        """
        return self._patiently(lambda: _standing(self._get(_path(job_id))), deadline)

    def follow(
        self, standing: Standing, seen: Callable[[Job], None], time_limit: float | None = None
    ) -> Job:
        """The job when it has ended; `seen` is called with each state on the way.

        Raises as `look`; TimedOut when the job has not ended after `time_limit` seconds.
        """
        deadline = float("inf") if time_limit is None else self.clock() + time_limit
        seen(standing.job)
        while not standing.job.status.terminal:
            self._pause(standing.ask_after, deadline)
            standing = self.look(standing.job.id, deadline)
            seen(standing.job)
        return standing.job

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Every file of a job that has succeeded. Raises as `look`."""
        path = f"{_path(job_id)}/artifacts"
        return self._patiently(lambda: _parsed(self._get(path), ArtifactList)).artifacts

    def fetch(self, job_id: str, name: str, receive: Callable[[Iterator[bytes]], T]) -> T:
        """What `receive` makes of a file's pieces; it is called again when the connection is lost.

        Raises as `look`, and whatever `receive` raises.
        """
        path = f"{_path(job_id)}/artifacts/{quote(name, safe='')}"

        def download() -> T:
            try:
                with self.http.stream("GET", path) as answer:
                    if not answer.is_success:
                        answer.read()
                    self._check(answer)
                    return receive(answer.iter_bytes())
            except httpx.TransportError as error:
                raise _Away(_reason(error), _ASK_AFTER) from error

        return self._patiently(download)

    def _get(self, path: str) -> httpx.Response:
        try:
            return self._check(self.http.get(path))
        except httpx.TransportError as error:
            raise _Away(_reason(error), _ASK_AFTER) from error

    def _check(self, answer: httpx.Response) -> httpx.Response:
        """The answer, if it is one. Raises _Away, Refused, Broke and Unreachable."""
        if answer.is_success:
            return answer
        problem = _problem(answer)
        if answer.status_code in _AWAY:
            why = problem.detail if problem else f"status {answer.status_code}"
            raise _Away(why, _retry_after(answer))
        if answer.is_redirect:
            there = answer.headers.get("Location", "somewhere else")
            raise Unreachable(f"{self.url} sends on to {there}: give that address instead.")
        if problem is None:
            raise Unreachable(
                f"What answers at {self.url} is no Mambascope (status {answer.status_code})."
            )
        if answer.is_client_error:
            raise Refused(problem)
        raise Broke(problem.detail, problem)

    def _patiently(self, ask: Callable[[], T], deadline: float = float("inf")) -> T:
        """The answer, asked for again while the service is away, though not for ever."""
        last = self.clock() + self.patience
        told = False
        while True:
            try:
                return ask()
            except _Away as away:
                if self.clock() + away.ask_after > last and deadline > last:
                    raise Unreachable(f"Nothing answers at {self.url} ({away}).") from away
                if not told:
                    self.away(f"{self.url} does not answer ({away}); asking again.")
                    told = True
                self._pause(away.ask_after, deadline)

    def _pause(self, seconds: float, deadline: float) -> None:
        """Sleep, to the deadline at most. Raises TimedOut when that has passed."""
        left = deadline - self.clock()
        if left <= 0:
            raise TimedOut("The job has not ended within the time given.")
        self.sleep(min(seconds, left))


@contextmanager
def connect(
    url: str, *, away: Callable[[str], None] = lambda line: None, ours: bool = False
) -> Iterator[Service]:
    """A service at an address. `ours`: on this machine, whatever proxy the environment names."""
    with httpx.Client(base_url=url, timeout=_HTTP_TIMEOUT, trust_env=not ours) as http:
        yield Service(http, away=away)


def _path(job_id: str) -> str:
    return f"{JOBS}/{quote(job_id, safe='')}"


def _standing(answer: httpx.Response) -> Standing:
    return Standing(_parsed(answer, Job), _retry_after(answer))


def _parsed(answer: httpx.Response, kind: type[M]) -> M:
    """The answer as a model of the contract; what a newer service says beyond it is left out."""
    if "json" not in answer.headers.get("Content-Type", ""):
        raise Unreachable(f"What answers at {answer.url.copy_with(userinfo=b'')} is no Mambascope.")
    try:
        return kind.model_validate_json(answer.content, extra="ignore")
    except ValidationError as error:
        raise Broke(
            f"The service sent no {kind.__name__} that this version understands "
            f"({error.errors()[0]['msg']}): use the version of Mambascope that runs there."
        ) from error


def _problem(answer: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(answer.content, extra="ignore")
    except ValidationError:
        return None


def _retry_after(answer: httpx.Response) -> float:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3)."""
    said = answer.headers.get("Retry-After", "")
    try:
        if said.isdecimal():
            seconds = float(said)
        else:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return _ASK_AFTER
    return min(max(seconds, 0.1), _LONGEST_PAUSE)


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
