"""The two ways to a service: one blocks, one awaits.

What is said on the way is written once, as coroutines over a `Wire`. A `BlockingWire` does its work
inside its coroutines and never suspends them, so `run` takes what is built on it from start to end
without an event loop, also inside one that runs, as a notebook's.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Wire(Protocol):
    """What the protocol needs of the world."""

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient:
        """Makes requests, and knows the address; the wire sends them."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that only rise."""

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """The answer, with its body unless `stream`. Raises httpx.TransportError."""

    def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The body of an answer that was asked for with `stream`. Raises httpx.TransportError."""

    async def read(self, answer: httpx.Response) -> None:
        """Have the body of such an answer at once. Raises httpx.TransportError."""

    async def close(self, answer: httpx.Response) -> None:
        """Be done with such an answer."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""


@dataclass(frozen=True)
class BlockingWire:
    """Blocks the thread."""

    http: httpx.Client
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """As of `Wire`."""
        return self.http.send(request, stream=stream)

    async def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        """As of `Wire`."""
        for piece in answer.iter_bytes():
            yield piece

    async def read(self, answer: httpx.Response) -> None:
        """As of `Wire`."""
        answer.read()

    async def close(self, answer: httpx.Response) -> None:
        """As of `Wire`."""
        answer.close()

    async def sleep(self, seconds: float) -> None:
        """As of `Wire`."""
        self.pause(seconds)


@dataclass(frozen=True)
class AwaitingWire:
    """Awaits on asyncio's event loop."""

    http: httpx.AsyncClient
    pause: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """As of `Wire`."""
        return await self.http.send(request, stream=stream)

    async def pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        """As of `Wire`."""
        async for piece in answer.aiter_bytes():
            yield piece

    async def read(self, answer: httpx.Response) -> None:
        """As of `Wire`."""
        await answer.aread()

    async def close(self, answer: httpx.Response) -> None:
        """As of `Wire`."""
        await answer.aclose()

    async def sleep(self, seconds: float) -> None:
        """As of `Wire`."""
        await self.pause(seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine over a BlockingWire returns or raises."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("This coroutine waits for an event loop: it is not over a BlockingWire.")


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """What an asynchronous generator over a BlockingWire yields; it is closed at the end."""
    try:
        while True:
            try:
                item = run(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(_close(items))


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()
