"""A connection to the store on which answers and a channel's messages come in one order.

RESP 3 lets a connection that is subscribed ask as well. What the server publishes before it answers
a question arrives before the answer, so an answer that holds a stream's end and the messages after
it leave no gap and overlap nowhere.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import hiredis
from redis.exceptions import ConnectionError as StoreConnectionError

from jobs.connect import SOCKET_TIMEOUT
from jobs.wire import command, open_wire

Take = Callable[[Any], None]

_PING = command("PING")


def _ignore(answer: Any) -> None:
    """What nobody waits for."""


class Line(asyncio.Protocol):
    """One connection, subscribed to one channel.

    `on_message` gets each message; `on_pause` is called before each answer is handed over and when
    all that has come was handed over. An error the server answers with, or its silence, ends it.
    """

    def __init__(
        self, writer: asyncio.StreamWriter, on_message: Take, on_pause: Callable[[], None]
    ):
        # Kept whole, because a stream that nobody holds closes its transport.
        self._writer = writer
        self._on_message, self._on_pause = on_message, on_pause
        self._reader = hiredis.Reader()
        self._askers: deque[Take] = deque()
        self._is_silent = False
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Exception] = loop.create_future()
        self._beat = loop.call_later(SOCKET_TIMEOUT, self._look)
        writer.transport.set_protocol(self)

    @classmethod
    async def open(
        cls,
        url: str,
        channel: str,
        *,
        on_ready: Take,
        on_message: Take,
        on_pause: Callable[[], None],
    ) -> Self:
        """Connect and subscribe; `on_ready` is called once that stands. Raises RedisError."""
        line = cls(await open_wire(url, resp=3), on_message, on_pause)
        line.ask(command("SUBSCRIBE", channel), 1, on_ready)
        return line

    def ask(self, request: bytes, answers: int, take: Take) -> None:
        """Send commands, and hand over the last of their answers."""
        self._askers.extend([_ignore] * (answers - 1))
        self._askers.append(take)
        self._writer.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Hand over what has come."""
        self._is_silent = False
        self._reader.feed(data)
        while (said := self._reader.gets()) is not False and not self.lost.done():
            if isinstance(said, hiredis.PushNotification) and said[0] == b"message":
                self._on_message(said[2])
            elif isinstance(said, hiredis.ReplyError):
                self.close(StoreConnectionError(str(said)))
            else:
                self._on_pause()
                self._askers.popleft()(said)
        self._on_pause()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever holds the line."""
        self.close(StoreConnectionError(f"connection lost: {exc or 'closed'}"))

    def close(self, reason: Exception | None = None) -> None:
        """Drop the connection."""
        self._beat.cancel()
        self._writer.transport.abort()
        if not self.lost.done():
            self.lost.set_result(reason or StoreConnectionError("closed"))

    def _look(self) -> None:
        """Whether the server still says anything, when asked."""
        if self._is_silent:
            self.close(StoreConnectionError(f"no word for {SOCKET_TIMEOUT:g} s"))
            return
        self._is_silent = True
        self.ask(_PING, 1, _ignore)
        self._beat = asyncio.get_running_loop().call_later(SOCKET_TIMEOUT, self._look)
