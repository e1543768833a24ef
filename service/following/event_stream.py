"""Server-sent events (HTML Living Standard, section 9.2): a watch as a response."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobs.events.watch import Listener, Watch
from service.http.boundary import IS_HEAD

MEDIA_TYPE = "text/event-stream"
# nginx, among others, would hold events back until it has a buffer full.
HEADERS = {
    "Content-Type": MEDIA_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
# Seconds without an event until a comment is sent, which keeps proxies from closing the stream.
KEEP_ALIVE = 10.0

_RETRY = b"retry: 2000\n\n"
_COMMENT = b":\n\n"


class EventStream(Response):
    """Sends what a watch gets, until it is over or the client leaves. It closes the watch."""

    def __init__(self, watch: Watch) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with self._watch:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not scope.get(IS_HEAD):
                leaving = asyncio.create_task(cut_when_left(receive, self._watch))
                try:
                    await self._tell(send)
                finally:
                    leaving.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        body = _RETRY
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if self._watch.is_over:
                return
            events = await self._watch.next(KEEP_ALIVE)
            if not events and self._watch.is_over:
                return
            body = b"".join(event.frame for event in events) or _COMMENT


async def cut_when_left(receive: Receive, listener: Listener) -> None:
    """End a listener when the client that it is for has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.cut()
