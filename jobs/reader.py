"""Job records read on an event loop: many of them in one exchange with the store.

redis-py opens the connection (`jobs.wire`), and what is then said on it is said here: its own
pipeline takes ten times the processor time of the exchange (decision 0013).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio.retry import Retry
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as StoreConnectionError

from jobs.connect import BACKOFF, RETRIES, SOCKET_TIMEOUT
from jobs.keys import Keys
from jobs.view import FIELDS
from jobs.wire import bulk, command, open_wire
from schemas.settings import Settings

# The values of `FIELDS`, and the place in the queue.
State = tuple[list[bytes | None], int | None]


class JobReader:
    """Reads what `jobs.view` shows of jobs. One call at a time, all on one event loop.

    A connection that is lost or silent is opened anew and asked again, for as long as the client of
    `jobs.connect.connect` does it.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url.get_secret_value()
        self._record = Keys(settings.key_prefix).record
        self._fields = b"".join(map(bulk, FIELDS))
        self._hmget = b"*%d\r\n" % (len(FIELDS) + 2) + bulk("HMGET")
        self._zrank = b"*3\r\n" + bulk("ZRANK") + bulk(Keys(settings.key_prefix).queued)
        self._retry = Retry(BACKOFF, RETRIES)
        self._wire: _Wire | None = None

    async def read(self, ids: Sequence[str]) -> list[State]:
        """What the store holds of each job, all at one moment. Raises RedisError."""
        asked = [_MULTI]
        for job_id in ids:
            asked += self._hmget, bulk(self._record(job_id)), self._fields
            asked += self._zrank, bulk(job_id)
        asked.append(_EXEC)
        request, answers = b"".join(asked), 2 * len(ids) + 2
        *_, found = await self._retry.call_with_retry(
            lambda: self._exchange(request, answers), self._after_failure
        )
        return list(zip(found[::2], found[1::2], strict=True))

    def close(self) -> None:
        """Let the connection go."""
        if self._wire is not None:
            self._wire.close()

    async def _exchange(self, request: bytes, answers: int) -> list[Any]:
        if self._wire is None or self._wire.closed:
            self._wire = await _connected(self._url)
        return await self._wire.ask(request, answers)

    async def _after_failure(self, error: Exception) -> None:
        self.close()


class _Wire(asyncio.Protocol):
    """One connection that speaks RESP 2."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        # Kept whole, because a stream that nobody holds closes its transport.
        self._writer = writer
        self._reader = hiredis.Reader()
        self._answers: list[Any] = []
        self._wanted = 0
        self._asker: asyncio.Future[list[Any]] | None = None
        self._asked = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.closed = False

    async def ask(self, request: bytes, answers: int) -> list[Any]:
        """Send commands and give the answer of each. Raises RedisError for any that failed."""
        loop = asyncio.get_running_loop()
        self._answers, self._wanted, self._asker = [], answers, loop.create_future()
        self._asked = loop.time()
        if self._watch is None:
            self._watch = loop.call_at(self._asked + SOCKET_TIMEOUT, self._close_if_silent)
        try:
            self._writer.transport.write(request)
            found = await self._asker
        except asyncio.CancelledError:
            # The answer is still to come, and it is not the next one's.
            self.close()
            raise
        _check(found)
        return found

    def _close_if_silent(self) -> None:
        """Drop a connection whose answer is overdue. One timer serves all that is asked."""
        self._watch = None
        if self._asker is None or self._asker.done():
            return
        loop, due = asyncio.get_running_loop(), self._asked + SOCKET_TIMEOUT
        if loop.time() < due:
            self._watch = loop.call_at(due, self._close_if_silent)
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Collect answers, and hand them over once all are there."""
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._answers.append(answer)
        if len(self._answers) == self._wanted and self._asker and not self._asker.done():
            self._asker.set_result(self._answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._asker and not self._asker.done():
            self._asker.set_exception(StoreConnectionError(f"connection lost: {exc or 'closed'}"))

    def close(self) -> None:
        """Drop the connection."""
        self.closed = True
        self._writer.transport.abort()


async def _connected(url: str) -> _Wire:
    writer = await open_wire(url)
    wire = _Wire(writer)
    writer.transport.set_protocol(wire)
    return wire


def _check(answers: list[Any]) -> None:
    """Raise the first error among answers, and among the answers that one of them holds."""
    for kind, answer in zip(map(type, answers), answers, strict=True):
        if kind is list:
            _check(answer)
        elif kind is hiredis.ReplyError:
            refused = BusyLoadingError if str(answer).startswith("LOADING") else ResponseError
            raise refused(str(answer))


_MULTI, _EXEC = command("MULTI"), command("EXEC")
