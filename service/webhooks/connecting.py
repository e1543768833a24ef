"""Connections to receivers: to checked addresses only, and of little to read."""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from service.webhooks.addresses import (
    Address,
    NoUsableAddress,
    Receiver,
    public_only,
    resolve,
)

# Seconds for one address to answer, and how many of a name's are tried.
_CONNECT_TIMEOUT = 5.0
_TRIED = 3
# An answer is a status and a few headers. Whoever sends more, or hints without end, is cut off.
_MAX_READ = 1 << 16


class AnswerTooLong(httpcore.ReadError):
    """The receiver sends more than is read."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to one receiver.

    Its name is resolved once; every address that comes back is checked, and exactly those are
    connected to. TLS and the `Host` header still have the name, from the request itself.
    """

    def __init__(self, receiver: Receiver, *, allow_private: bool) -> None:
        self._receiver = receiver
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises httpcore.ConnectError."""
        try:
            addresses = await self._addresses()
        except NoUsableAddress as error:
            raise httpcore.ConnectError("no usable address") from error
        failed: Exception | None = None
        for address in addresses[:_TRIED]:
            try:
                return _Metered(
                    await self._network.connect_tcp(str(address), port, _CONNECT_TIMEOUT)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise httpcore.ConnectError("no connection") from failed

    async def _addresses(self) -> list[Address]:
        address = self._receiver.address
        found = await resolve(self._receiver.host) if address is None else [address]
        return found if self._allow_private else public_only(found)


class _Metered(httpcore.AsyncNetworkStream):
    """A stream of which a bounded number of bytes is read, and which is never left open."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MAX_READ

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Bytes that have come. Raises AnswerTooLong."""
        if self._left <= 0:
            raise AnswerTooLong("the answer is too long")
        data = await self._stream.read(max_bytes, timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        try:
            return _Metered(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            # Also when the time is up, which is a cancellation and which httpcore does not mind.
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a stream."""
        return self._stream.get_extra_info(info)
