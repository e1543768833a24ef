"""API keys as this process knows them: looked up in the store once in a few seconds."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from jobs.access.access_keys import AccessKeys
from schemas.access import AccessKey

# Seconds that an answer of the store is relied on: a revoked key works no longer than that.
FRESH_FOR = 3.0
# Wrong keys that are remembered; whoever makes up more than these is answered by the store.
_MOST_WRONG = 1000
# Lookups take no threads away from those that are let in.
_LOOKUPS = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What the store said of a key, and until when that is relied on (on `time.monotonic`)."""

    key: AccessKey | None
    until: float


class KnownKeys:
    """Answers from memory who a key is, all on one event loop.

    Once a key was seen to exist, a key is needed for as long as the process lives, even if all of
    them are deleted from the store; `closed`: from the start.
    """

    def __init__(self, access: AccessKeys, *, closed: bool) -> None:
        self._access = access
        self._closed = closed
        self._open_until = 0.0
        self._right: dict[bytes, Answer] = {}
        self._wrong: dict[bytes, Answer] = {}
        self._asked: dict[bytes, asyncio.Task[Any]] = {}
        self._threads = CapacityLimiter(_LOOKUPS)

    def are_open(self) -> bool:
        """Whether it is known right now that no key is needed."""
        return time.monotonic() < self._open_until

    async def are_needed(self) -> bool:
        """Whether a key is needed. Raises RedisError."""
        if not self._closed and not self.are_open():
            began = time.monotonic()
            if await self._once(b"", self._access.exist):
                self._closed = True
                self._open_until = 0.0
            elif not self._closed:
                self._open_until = began + FRESH_FOR
        return self._closed

    async def find(self, presented: str) -> Answer:
        """Who a key is, if it is one in force. Raises RedisError."""
        digest = hashlib.sha256(presented.encode()).digest()
        answer = self._right.get(digest) or self._wrong.get(digest)
        if answer is not None and time.monotonic() < answer.until:
            return answer
        began = time.monotonic()
        key = await self._once(digest, partial(self._access.find, presented))
        answer = Answer(key, began + FRESH_FOR)
        self._remember(digest, answer)
        return answer

    def _remember(self, digest: bytes, answer: Answer) -> None:
        self._right.pop(digest, None)
        self._wrong.pop(digest, None)
        if answer.key is not None:
            self._right[digest] = answer
            return
        self._wrong[digest] = answer
        if len(self._wrong) > _MOST_WRONG:
            del self._wrong[next(iter(self._wrong))]

    async def _once(self, what: bytes, look: Callable[[], T]) -> T:
        """Ask the store, once for all that ask the same meanwhile."""
        task: asyncio.Task[T] | None = self._asked.get(what)
        if task is None:
            task = asyncio.create_task(self._look(what, look))
            self._asked[what] = task
            # Where all that asked have gone, nobody else hears of a failure.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Who goes away takes the answer from nobody else.
        return await asyncio.shield(task)

    async def _look(self, what: bytes, look: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(look, limiter=self._threads)
        finally:
            del self._asked[what]
