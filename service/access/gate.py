"""Who may use the API, and how often: every path below it goes through here, and no other does."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import structlog
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.access.limits import REQUESTS, Left, Limits
from schemas.access import AccessKey
from schemas.names import API_VERSION, JOBS_PATH
from schemas.problem import FieldError, Problem, ProblemType
from service.access.caller import admit_anyone, admit_key
from service.access.known_keys import KnownKeys
from service.access.quotas import Header, left_header, policy_header
from service.problems import problem_response, store_down

_API = f"/{API_VERSION}"
_CHALLENGE = 'Bearer realm="mambascope"'
# Of characters; a key has 64.
_LONGEST_KEY = 200


def is_guarded(path: str) -> bool:
    """Whether a path is one of the API's, so that it takes a key where there are any."""
    return path == _API or path.startswith(f"{_API}/")


class Gate:
    """ASGI middleware that finds a request's caller (`caller.py`), or answers in its place.

    While no key was ever made, anyone is let in. Where there are keys, a request needs one in its
    `Authorization` (RFC 6750), counts against its key's limit of requests, and is logged with the
    key's id. One that goes on for long ends when its key is revoked.
    """

    def __init__(self, app: ASGIApp, known: KnownKeys, limits: Limits) -> None:
        self._app = app
        self._known = known
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not is_guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._known.are_open():
            admit_anyone(scope)
            await self._app(scope, receive, send)
            return
        try:
            found = await self._judge(scope, send)
        except RedisError as error:
            found = store_down(error)
        if isinstance(found, Response):
            await found(scope, receive, send)
        else:
            await self._app(scope, receive, found)

    async def _judge(self, scope: Scope, send: Send) -> Send | Response:
        """Where the application is to send its answer, or the refusal. Raises RedisError."""
        if not await self._known.are_needed():
            admit_anyone(scope)
            return send
        presented = _presented(scope)
        if not presented:
            return _unauthenticated(is_wrong=presented is not None)
        answer = await self._known.find(presented)
        if answer.key is None:
            return _unauthenticated(is_wrong=True)
        admit_key(scope, answer.key)
        structlog.contextvars.bind_contextvars(key=answer.key.id)
        visit = _Visit(scope, send, self._known, presented, answer.until)
        return await self._limit(scope, answer.key, visit)

    async def _limit(self, scope: Scope, key: AccessKey, visit: "_Visit") -> Send | Response:
        """The same, once the request is counted."""
        limits, policy = key.limits, policy_header(key.limits)
        if policy is None:
            return visit.forward
        visit.headers.append(policy)
        most = limits.requests_per_minute
        if most is not None:
            passes, left = await run_in_threadpool(self._limits.request, key.id, most)
            visit.left[REQUESTS] = left
            if not passes:
                return _too_many(most, left, await visit.told())
        if scope["method"] == "POST" and scope["path"] == JOBS_PATH:
            visit.look = partial(run_in_threadpool, self._limits.of_jobs, key.id, limits)
        return visit.forward


@dataclass
class _Visit:
    """A request of a key's holder, from its arrival to the end of its answer."""

    scope: Scope
    send: Send
    known: KnownKeys
    presented: str
    until: float
    """When the store is to be asked again whether the key is in force, on `time.monotonic`."""
    headers: list[Header] = field(default_factory=list)
    left: dict[str, Left] = field(default_factory=dict)
    look: Callable[[], Awaitable[dict[str, Left]]] | None = None
    """Finds what else is left once the answer stands."""

    async def forward(self, message: Message) -> None:
        """Pass a message of the answer on, while the key is in force."""
        starts = message["type"] == "http.response.start"
        goes_on = message.get("more_body", False) or (starts and self.scope["method"] == "GET")
        if goes_on and monotonic() >= self.until and not await self._is_in_force():
            if starts:
                await _unauthenticated(is_wrong=True)(self.scope, _no_more, self.send)
            # An answer that has begun is cut: its end is missing, as the client is to see.
            raise ClientDisconnect
        if starts:
            message["headers"] = [*message.get("headers", ()), *await self.told()]
        await self.send(message)

    async def _is_in_force(self) -> bool:
        """Whether the key is still in force, as far as the store can tell."""
        try:
            answer = await self.known.find(self.presented)
        except RedisError:
            return True
        self.until = answer.until
        return answer.key is not None

    async def told(self) -> list[Header]:
        """The headers that say what the key may do and what is left."""
        if self.look is not None:
            with suppress(RedisError):
                self.left.update(await self.look())
        left = left_header(self.left)
        return self.headers if left is None else [*self.headers, left]


async def _no_more() -> Message:
    """What is received of a request to which nobody listens."""
    return {"type": "http.disconnect"}


def _presented(scope: Scope) -> str | None:
    """The key in a request's headers; empty: something else stands there; None: nothing does."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        return None
    scheme, _, key = given[0].decode("latin-1").partition(" ")
    key = key.strip(" ")
    is_one = len(given) == 1 and scheme.lower() == "bearer" and len(key) <= _LONGEST_KEY
    return key if is_one else ""


def _unauthenticated(*, is_wrong: bool) -> Response:
    """Ask for a key: none came, or one that is wrong."""
    detail = (
        "The header `Authorization` holds no key that is in force here. Send one header, "
        "`Authorization: Bearer msk_...`, with a key as `mambascope keys create` printed it."
        if is_wrong
        else "This service asks for a key. Send it in the header `Authorization: Bearer msk_...`; "
        "`mambascope keys create` makes one."
    )
    challenge = _CHALLENGE
    if is_wrong:
        challenge += ', error="invalid_token", error_description="The key is not in force here"'
    errors = [FieldError(parameter="Authorization", detail=detail)]
    problem = Problem.of(ProblemType.UNAUTHENTICATED, detail, errors)
    return problem_response(problem, {"WWW-Authenticate": challenge})


def _too_many(most: int, left: Left, headers: list[Header]) -> Response:
    """Say that a key has made as many requests as it may."""
    detail = f"This key may make {most} requests in a minute. Ask again in {left.more_in} seconds."
    problem = Problem.of(ProblemType.RATE_LIMIT, detail)
    response = problem_response(problem, retry_after=left.more_in)
    response.raw_headers.extend(headers)
    return response
