"""A job's events as they happen, over server-sent events, or by looking where there are none."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from mambascope.client.errors import NotFound, ServiceFault
from mambascope.client.exchange import Question, understood
from mambascope.client.service import Service, job_path
from schemas.job import Job, JobEvent

EVENT_STREAM = "text/event-stream"
# Seconds between which a service says something; a proxy may hold it back for ever.
_KEEP_ALIVE = 15.0
_SILENT_STREAMS = 2
_RECONNECT_AFTER = 1.0
_LONGEST_RECONNECT = 30.0
_LONGEST_EVENT = 1 << 20


@dataclass
class EventParser:
    """Reads an event stream (the HTML standard, section 9.2) from its bytes, however cut."""

    last_id: str = ""
    retry: float = _RECONNECT_AFTER
    """Seconds before connecting again."""
    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)
    _id: str = ""

    def restart(self) -> None:
        """Begin with another connection: an event that was cut off comes again."""
        self._rest, self._id = b"", self.last_id
        self._data.clear()

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of each event that a piece ends. Raises ServiceFault for one without end."""
        *lines, self._rest = _lines(self._rest + piece)
        if len(self._rest) > _LONGEST_EVENT:
            raise ServiceFault("The service sent an event without an end.")
        for line in lines:
            yield from self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[str]:
        if not line:
            self.last_id = self._id
            if self._data:
                yield "\n".join(self._data)
                self._data.clear()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry = min(float(value) / 1000, _LONGEST_RECONNECT)


def _lines(received: bytes) -> list[bytes]:
    """Whole lines, which end with \\n, \\r\\n or \\r, and what stands after the last of them."""
    # A carriage return at the end may be half of an end of line.
    held = b"\r" if received.endswith(b"\r") else b""
    text = received[: len(received) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, rest = text.split(b"\n")
    return [*lines, rest + held]


class _NoStream(Exception):  # noqa: N818 - it says what is the case
    """The service has no events of this job to send."""


async def events(service: Service, job_id: str) -> AsyncGenerator[JobEvent, None]:
    """Everything that happens to a job from its beginning to its end.

    A stream that breaks goes on where it broke. Where there is none, or one that ends without an
    event once and again, the job's changes are those that long polls see. Raises as `look`.
    """
    parser, last, silent = EventParser(), None, 0
    while silent < _SILENT_STREAMS:
        silent += 1
        try:
            async with aclosing(_heard(service, job_id, parser)) as pieces:
                async for piece in pieces:
                    for data in parser.feed(piece):
                        last, silent = understood(data, JobEvent), 0
                        yield last
                        if last.status.terminal:
                            return
        except _NoStream:
            break
        parser.restart()
        await service.exchange.pause(parser.retry)
    async with aclosing(_polled(service, job_id)) as polled:
        async for event in polled:
            if last is None or event != last.model_copy(update={"at": event.at}):
                yield event


async def _heard(service: Service, job_id: str, parser: EventParser) -> AsyncGenerator[bytes, None]:
    """What one connection brings until it breaks. Raises _NoStream, and as `Service.look`."""
    headers = {"Accept": EVENT_STREAM}
    headers |= {"Last-Event-ID": parser.last_id} if parser.last_id else {}
    question = Question("GET", f"{job_path(job_id)}/events", headers=headers, seconds=_KEEP_ALIVE)
    try:
        answer = await service.exchange.patiently(lambda: service.exchange.open(question))
    except NotFound:
        raise _NoStream from None
    try:
        if answer.headers.get("Content-Type", "").partition(";")[0].strip() != EVENT_STREAM:
            raise _NoStream
        async with aclosing(service.wire.pieces(answer)) as pieces:
            async for piece in pieces:
                yield piece
    except httpx.TransportError as error:
        service.exchange.away(f"The events of job {job_id} broke off ({error}); asking again.")
    finally:
        await service.wire.close(answer)


async def _polled(service: Service, job_id: str) -> AsyncGenerator[JobEvent, None]:
    async with aclosing(service.states(await service.look(job_id))) as states:
        async for job in states:
            yield _event(job)


def _event(job: Job) -> JobEvent:
    at = job.finished_at or datetime.now(UTC)
    return JobEvent(at=at, status=job.status, attempts=job.attempts, progress=job.progress)
