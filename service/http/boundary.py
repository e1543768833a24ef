"""The outermost layer of every request: its id, its log line, and what to say of a bug."""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.artifacts import ArtifactNotFound
from service.http.cors import Cors, RawHeaders
from service.problems import internal_problem, problem_response

HEADER = b"x-request-id"
IS_HEAD = "mambascope.is_head"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEALTH = ("/healthz", "/readyz", "/metrics")
_PATH_SHOWN = 200

_log = structlog.get_logger("service.access")


@dataclass
class _Exchange:
    """What the log line says of one request and its response."""

    request_id: str
    send: Send
    cors: RawHeaders
    status: int | None = None
    sent: int = 0

    async def forward(self, message: Message) -> None:
        """Pass a message on, adding the headers that every response carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (HEADER, self.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
                *self.cors,
            ]
        else:
            self.sent += len(message.get("body", b""))
        await self.send(message)


class Boundary:
    """ASGI middleware: request ids in and out, one access line each, no bug shown to a client.

    Whatever is answered, bugs included, carries what a browser must see to let a page read it.
    HEAD is answered as GET; the server leaves the body away. The log line holds no header, no
    query and no body, so no text of a user is ever in it.
    """

    def __init__(
        self, app: ASGIApp, answered: Callable[[str, str, int, float], None], cors: Cors
    ) -> None:
        self._app = app
        self._answered = answered
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            # A copy: the server drops the body because its own scope still says HEAD.
            scope = {**scope, "method": "GET", IS_HEAD: True}
        exchange = _Exchange(_request_id(scope), send, self._cors.headers(scope))
        # The server runs each request in a context of its own, so nothing has to be unbound.
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        began = time.perf_counter()
        try:
            await self._answer(scope, receive, exchange)
        finally:
            seconds = time.perf_counter() - began
            self._answered(
                method if method in _METHODS else "other",
                getattr(scope.get("route"), "path", "none"),
                exchange.status or 0,
                seconds,
            )
            # Health checks come every few seconds, from several sides.
            tell = _log.debug if scope["path"] in _HEALTH else _log.info
            tell(
                "request",
                method=method,
                path=scope["path"][:_PATH_SHOWN],
                status=exchange.status,
                bytes=exchange.sent,
                ms=round(seconds * 1000, 2),
            )

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            answer = self._cors.preflight(scope) or self._app
            await answer(scope, receive, exchange.forward)
        except ClientDisconnect:
            return  # there is nobody to answer
        except Exception as error:
            # Once a response has begun, the server closes the connection on it, so that a client
            # sees a broken transfer and not a short body.
            if exchange.status is not None and isinstance(error, ArtifactNotFound):
                # As a rule the job has expired meanwhile, which is no bug.
                _log.warning("transfer broken off", cause=str(error))
                return
            _log.exception("unhandled")
            if exchange.status is None:
                response = problem_response(internal_problem(exchange.request_id))
                await response(scope, receive, exchange.forward)


def _request_id(scope: Scope) -> str:
    """The client's own id for the request if it sent a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == HEADER and _ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(16)
