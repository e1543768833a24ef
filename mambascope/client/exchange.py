"""One question to a service and its answer: asked again while the service is away, then read."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from mambascope.client.errors import RateLimited, ServiceFault, TimedOut, Unreachable, refusal
from mambascope.client.wire import Wire
from schemas.problem import Problem

# Seconds. How long a service may be away while a job runs there: a restart takes a few.
PATIENCE = 60.0
FOREVER = float("inf")
# Where the service does not say when to ask again: doubled each time, less what is drawn by lot,
# so that those who wait for one service do not come back to it all at once.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 8.0
_LEAST_SHARE = 0.5
# What a proxy or the service itself answers while it is away or has too much to do.
_AWAY = frozenset({429, 502, 503, 504})

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Away(Exception):  # noqa: N818 - it says what is the case
    """No answer this time, and asking again may help; `ask_after` is when, as the service said."""

    def __init__(
        self, why: str, ask_after: float | None = None, problem: Problem | None = None
    ) -> None:
        super().__init__(why)
        self.ask_after = ask_after
        self.problem = problem


@dataclass(frozen=True)
class Question:
    """A request that can be sent as often as need be. `seconds`: longer than others to answer."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    seconds: float = 0.0


@dataclass
class Exchange:
    """Asks a service. `away` is told when it does not answer and will be asked again."""

    wire: Wire
    patience: float = PATIENCE
    away: Callable[[str], None] = field(default=lambda line: None, repr=False)
    lot: Callable[[], float] = field(default=random.random, repr=False)
    _met: bool = field(default=False, init=False, repr=False)
    """Whether anything has answered yet; what never did is no service that restarts."""

    @property
    def url(self) -> str:
        """The service's address, without a password that it may hold."""
        return str(self.wire.http.base_url.copy_with(userinfo=b"")).rstrip("/")

    async def ask(self, question: Question, deadline: float = FOREVER) -> httpx.Response:
        """The answer, with its body; a 304 is one. Raises as `patiently`, and RequestRefused."""
        return await self.patiently(lambda: self._asked(question), deadline)

    async def open(self, question: Question) -> httpx.Response:
        """One attempt at an answer whose body is read piece by piece. Raises Away and as `ask`."""
        answer = await self._sent(question, stream=True)
        if not answer.is_success:
            try:
                await self.wire.read(answer)
                self._check(answer)
            except httpx.TransportError as error:
                raise self.lost(error) from error
            finally:
                await self.wire.close(answer)
        return answer

    async def patiently(self, attempt: Callable[[], Awaitable[T]], deadline: float = FOREVER) -> T:
        """What an attempt returns; it is made again when it raises Away, though not for ever.

        Raises Unreachable or RateLimited after `patience` seconds, and TimedOut at the deadline.
        """
        last, pause = FOREVER, _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except Away as away:
                now = self.wire.clock()
                if last == FOREVER:
                    last = now + self.patience
                    wording = "asks to come back later" if away.problem else "does not answer"
                    self.away(f"{self.url} {wording} ({away}); asking again.")
                after = away.ask_after
                if after is None:
                    after = min(pause * (1 - _LEAST_SHARE * self.lot()), max(last - now, 0.0))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                if (now >= last or now + after > last) and deadline > last:
                    raise self._given_up(away) from away
                await self.pause(after, deadline)

    async def pause(self, seconds: float, deadline: float = FOREVER) -> None:
        """Sleep, to the deadline at most. Raises TimedOut when that has passed."""
        left = deadline - self.wire.clock()
        if left <= 0:
            raise TimedOut("The job has not ended within the time given.")
        if seconds > 0:
            await self.wire.sleep(min(seconds, left))

    def lost(self, error: httpx.TransportError) -> Exception:
        """What a broken connection means: Away, or Unreachable when there never was one."""
        why = str(error) or type(error).__name__
        if not self._met and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(f"Nothing answers at {self.url} ({why}).")
        return Away(why)

    async def _asked(self, question: Question) -> httpx.Response:
        answer = await self._sent(question)
        self._check(answer)
        return answer

    async def _sent(self, question: Question, *, stream: bool = False) -> httpx.Response:
        http = self.wire.http
        if http.is_closed:
            raise Unreachable(
                "The client is closed: ask for figures, tensors and files inside its `with` block."
            )
        usual = http.timeout.read
        timeout = httpx.Timeout(http.timeout)
        timeout.read = None if usual is None else usual + question.seconds
        request = http.build_request(
            question.method,
            question.path,
            params=dict(question.params) or None,
            headers=dict(question.headers),
            content=question.content,
            timeout=timeout,
        )
        try:
            answer = await self.wire.send(request, stream=stream)
        except httpx.TransportError as error:
            raise self.lost(error) from error
        self._met = True
        return answer

    def _check(self, answer: httpx.Response) -> None:
        """Raises Away, RequestRefused, ServiceFault and Unreachable for what is no answer."""
        if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
            return
        problem = _problem(answer)
        if answer.status_code in _AWAY:
            why = problem.detail if problem else f"status {answer.status_code}"
            raise Away(why, retry_after(answer), problem)
        if answer.is_redirect:
            there = answer.headers.get("Location", "somewhere else")
            raise Unreachable(f"{self.url} sends on to {there}: give that address instead.")
        if problem is None:
            raise Unreachable(
                f"What answers at {self.url} is no Mambascope (status {answer.status_code})."
            )
        if answer.is_client_error:
            raise refusal(problem)
        raise ServiceFault(problem.detail, problem)

    def _given_up(self, away: Away) -> Exception:
        if away.problem is not None and away.problem.status == httpx.codes.TOO_MANY_REQUESTS:
            return RateLimited(away.problem, away.ask_after or _LONGEST_PAUSE)
        return Unreachable(f"Nothing answers at {self.url} ({away}).")


def parsed(answer: httpx.Response, kind: type[M]) -> M:
    """The answer as a model of the contract; what a newer service says beyond it is left out."""
    if "json" not in answer.headers.get("Content-Type", ""):
        raise Unreachable(f"What answers at {answer.url.copy_with(userinfo=b'')} is no Mambascope.")
    return understood(answer.content, kind)


def understood(written: bytes | str, kind: type[M]) -> M:
    """JSON as a model of the contract. Raises ServiceFault."""
    try:
        return kind.model_validate_json(written, extra="ignore")
    except ValidationError as error:
        raise ServiceFault(
            f"The service sent no {kind.__name__} that this version understands "
            f"({error.errors()[0]['msg']}): use the version of Mambascope that runs there."
        ) from error


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3), or None."""
    said = answer.headers.get("Retry-After", "")
    try:
        if said.isdecimal():
            seconds = float(said)
        else:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return max(seconds, 0.1)


def _problem(answer: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(answer.content, extra="ignore")
    except ValidationError:
        return None
