"""The process that serves the application."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import h11
import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobs.access.access_keys import AccessKeys
from jobs.connect import connect
from schemas.problem import Problem
from schemas.settings import Settings
from service.problems import MEDIA_TYPE

# Seconds for a request's head to arrive, from the connection or the head's first bytes on.
HEAD_TIME_LIMIT = 30.0
# Seconds that responses under way have to end after SIGTERM; `mambascope up` waits one more.
_GRACE = 5

_log = structlog.get_logger("service.server")


class RemoteNotAllowed(Exception):  # noqa: N818 - it says what is the case
    """The host is one that other machines reach, and the settings do not allow that."""


class _Protocol(H11Protocol):
    """HTTP/1.1 that answers what is no HTTP with a problem too, and waits for no head for ever."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that they leave unfinished has to go on soon."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_TIME_LIMIT, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP request, which the application never sees."""
        problem = Problem(type="about:blank", title="Bad Request", status=400, detail=msg)
        body = problem.model_dump_json().encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn that says where it listens, so that port 0 is of use, and stops without delay."""

    def __init__(
        self,
        config: uvicorn.Config,
        port_file: Path | None = None,
        end_streams: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.port: int | None = None
        self._port_file = port_file
        self._end_streams = end_streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then tell the port."""
        await super().startup(sockets)
        if not self.started:
            return
        self.port = int(self.servers[0].sockets[0].getsockname()[1])
        if self._port_file is not None:
            await asyncio.to_thread(_write, self._port_file, str(self.port))
        _log.info("listening", host=self.config.host, port=self.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would not end by itself, then wait for the rest."""
        if self._end_streams is not None:
            self._end_streams()
        await super().shutdown(sockets)


def server_for(app: FastAPI, settings: Settings, port_file: Path | None = None) -> Server:
    """A server for the application. Raises RemoteNotAllowed, and RedisError for a remote host."""
    if settings.must_ask_for_keys and not _keys_exist(settings):
        raise RemoteNotAllowed(
            f"{settings.host} can be reached from other machines, and no key has been made: make "
            "one with `mambascope keys create`, listen on 127.0.0.1, or set "
            "MAMBASCOPE_ALLOW_REMOTE=true if whoever reaches it may use it."
        )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return Server(config, port_file, getattr(app.state, "end_streams", None))


def _keys_exist(settings: Settings) -> bool:
    with closing(connect(settings)) as redis:
        return AccessKeys(redis, settings).exist()


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader sees nothing of it or all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
