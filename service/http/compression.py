"""JSON and text compressed on their way out, where the client takes that."""

from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.boundary import IS_HEAD
from service.http.codings import Accepted, Compressor, accepted_by, compressor_for

# Bytes. Below the first a body fits the packet or two that it takes anyhow, as that of a job that
# is polled does. Up to the second, compressing takes less than handing it to a thread is worth.
_SMALLEST = 2048
_AT_ONCE = 1 << 15
_PIECE = 1 << 18
_THREADS = 2
# Longer ones are no honest wish, and would fill the memory of what was parsed.
_LONGEST_HEADER = 200

_NOTHING = Accepted(None)

_VARY = (b"vary", b"Accept-Encoding")
_JSON = b"application/json"


class Compression:
    """ASGI middleware: gzip or zstd for JSON, problems and text.

    What is compressed has a weak `ETag`, which `If-None-Match` matches like the strong one of the
    plain bytes, and neither a digest nor ranges: those are of the plain bytes. A part (206) is
    never compressed, nor is an event stream, nor what is compressed by its own format.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._threads = CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            send = _Outgoing(scope, send, self._threads).forward
        await self._app(scope, receive, send)


@dataclass(slots=True)
class _Outgoing:
    """One response; its head waits for the first of its body, which decides."""

    scope: Scope
    send: Send
    threads: CapacityLimiter
    head: Message | None = None
    compressor: Compressor | None = None

    async def forward(self, message: Message) -> None:
        """Pass a message on, or what becomes of it."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self.send(message)
        elif self.head is not None:
            head, self.head = self.head, None
            await self._first(head, message)
        elif self.compressor is not None:
            await self._compressed(self.compressor, message)
        else:
            await self.send(message)

    async def _begin(self, head: Message) -> None:
        status = head["status"]
        # A 304 has to vary as the 200 that it stands for.
        if status != 304 and not _is_compressible(_value(head, b"content-type")):
            await self.send(head)
            return
        head["headers"] = [*head["headers"], _VARY]
        if status in (204, 206, 304) or _value(head, b"content-encoding"):
            if status == 304:
                _weaken_as_held(head, self.scope)
            await self.send(head)
            return
        self.head = head

    async def _first(self, head: Message, message: Message) -> None:
        body, is_whole = message.get("body", b""), not message.get("more_body", False)
        accepted = _accepted(self.scope)
        if accepted.coding is None or (
            accepted.plain and len(body) < _SMALLEST and _length(head, body, is_whole) < _SMALLEST
        ):
            await self.send(head)
            await self.send(message)
            return
        _mark(head, accepted.coding)
        compressor = compressor_for(accepted.coding)
        if is_whole and body and len(body) <= _AT_ONCE:
            body = compressor.compress(body) + compressor.flush()
            head["headers"].append((b"content-length", b"%d" % len(body)))
            await self.send(head)
            await self.send({**message, "body": body})
            return
        await self.send(head)
        if self.scope.get(IS_HEAD) and is_whole:
            # How long it would become is not known without making it.
            await self.send({**message, "body": b""})
            return
        self.compressor = compressor
        await self._compressed(compressor, message)

    async def _compressed(self, compressor: Compressor, message: Message) -> None:
        """Send a part of the body, compressed in a thread a piece at a time."""
        body = memoryview(message.get("body", b""))
        for at in range(0, len(body), _PIECE):
            piece = await to_thread.run_sync(
                compressor.compress, body[at : at + _PIECE], limiter=self.threads
            )
            if piece:
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        if not message.get("more_body", False):
            await self.send({"type": "http.response.body", "body": compressor.flush()})


def _is_compressible(content_type: bytes) -> bool:
    if content_type == _JSON:
        return True
    kind = content_type.partition(b";")[0].strip().lower()
    if kind.startswith(b"text/"):
        return kind != b"text/event-stream"
    return kind == _JSON or kind.endswith(b"+json")


def _value(head: Message, name: bytes) -> bytes:
    """A header of a response; empty where it is not there."""
    for key, value in head["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def _length(head: Message, body: bytes, is_whole: bool) -> int:
    """Bytes of the whole body, of which this is the first part; HEAD may leave it away."""
    declared = _value(head, b"content-length")
    return int(declared) if declared else len(body) if is_whole else _SMALLEST


def _asked(scope: Scope, name: bytes) -> str:
    """A header of a request, its lines as one."""
    return b",".join([value for key, value in scope["headers"] if key == name]).decode("latin-1")


def _accepted(scope: Scope) -> Accepted:
    header = _asked(scope, b"accept-encoding")
    return accepted_by(header) if len(header) <= _LONGEST_HEADER else _NOTHING


def _mark(head: Message, coding: str) -> None:
    """Say of a response what is true of it once it is compressed."""
    gone = (b"content-length", b"accept-ranges", b"repr-digest")
    kept = [
        (name, _weak(value) if name == b"etag" else value)
        for name, value in head["headers"]
        if name not in gone
    ]
    head["headers"] = [*kept, (b"content-encoding", coding.encode())]


def _weak(tag: bytes) -> bytes:
    return tag if tag.startswith(b"W/") else b"W/" + tag


def _weaken_as_held(head: Message, scope: Scope) -> None:
    """Give a 304 the form of the tag that the client holds, which tells how it was sent."""
    held = {name.strip() for name in _asked(scope, b"if-none-match").split(",")}
    tag = _value(head, b"etag")
    if str(tag, "latin-1") not in held and str(_weak(tag), "latin-1") in held:
        head["headers"] = [
            (name, _weak(value) if name == b"etag" else value) for name, value in head["headers"]
        ]
