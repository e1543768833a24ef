"""Which receivers may be written to: what a URL names, and which addresses are public.

The URL is taken apart here and nowhere else, so what is checked is what is connected to. A name is
resolved when it is delivered to, and what it resolves to is checked by `public_only`.
"""

import asyncio
import ipaddress
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# How the last part of a host looks that means an address (URL Standard, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME = 253
# Characters that a request target may hold as they are; `%` because it is encoded already.
_TARGET_SAFE = "/?%:@!$&'()*+,;=-._~[]"

# IANA's registries of special-purpose addresses; what is not to be reached from the public net.
_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
# Of IPv6 only this is given out. Loopback, unique local, link-local, multicast, IPv4-mapped and
# NAT64 addresses lie outside of it; Teredo, documentation and 6to4 inside.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)


class UnusableUrl(ValueError):  # noqa: N818 - it says what is the case
    """The URL cannot be delivered to; the text says how to mend it."""


class NoUsableAddress(OSError):  # noqa: N818
    """A name has no address, or one that may not be written to."""


@dataclass(frozen=True)
class Receiver:
    """Where a URL leads: `host` is a name in lower case or an address, without brackets."""

    scheme: str
    host: str
    port: int
    target: bytes
    address: Address | None
    """What the URL itself says of the address; None: its name has to be resolved."""

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def is_public(self) -> bool:
        """False where it can be told without asking anyone that the receiver is not public."""
        if self.address is not None:
            return is_public(self.address)
        return self.host.rpartition(".")[2] != "localhost"


def receiver_of(url: str) -> Receiver:
    """Take a webhook's URL apart. Raises UnusableUrl."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise UnusableUrl("Give a URL that begins with `https://` or `http://`.")
    scheme, authority, target = parts.groups()
    if "@" in authority:
        raise UnusableUrl(
            "Leave the user name and password out of the URL: what is sent is signed instead."
        )
    named = _AUTHORITY.fullmatch(authority)
    if named is None:
        raise UnusableUrl("The URL's host is not one: give a name or an address.")
    host, address = _host(named[1])
    return Receiver(scheme, host, _port(named[2], scheme), _target(target), address)


def is_public(address: Address) -> bool:
    """Whether an address may be reached from the public net, and embeds no other address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def public_only(addresses: list[Address]) -> list[Address]:
    """The same addresses. Raises NoUsableAddress when one of them is not public, or there is none.

    One is enough: a name that leads inside as well as outside is not to be trusted.
    """
    if not addresses or not all(map(is_public, addresses)):
        raise NoUsableAddress
    return addresses


async def resolve(host: str) -> list[Address]:
    """Every address of a name, in the order of preference (RFC 6724). Raises NoUsableAddress.

    In a thread that nobody waits for: a silent name server must neither take a place in a pool nor
    keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()

    def tell(found: list[Address]) -> None:
        if not answer.done():
            answer.set_result(found)

    def ask() -> None:
        found: list[Address] = []
        # UnicodeError: the name is too long for the name service.
        with suppress(OSError, UnicodeError):
            listed = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = [ipaddress.ip_address(str(entry[4][0])) for entry in listed]
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    found = await answer
    if not found:
        raise NoUsableAddress
    return found


def _host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        with suppress(ValueError):
            address = ipaddress.IPv6Address(text[1:-1])
            return str(address), address
        raise UnusableUrl("The URL's host is no IPv6 address.")
    if not text.isascii():
        raise UnusableUrl("Give the URL's host in ASCII: names of other letters as `xn--...`.")
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _numeric_host(host)
    if len(host) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise UnusableUrl("The URL's host is not one: give a name or an address.")
    return host, None


def _numeric_host(host: str) -> tuple[str, Address]:
    """An IPv4 address, also in the forms that only inet_aton(3) reads: 2130706433, 0x7f.1."""
    try:
        address = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        raise UnusableUrl("The URL's host is no IPv4 address.") from None
    return str(address), address


def _port(text: str | None, scheme: str) -> int:
    if not text:
        return 443 if scheme == "https" else 80
    if len(text) > 5 or not 0 < int(text) < 65536:
        raise UnusableUrl("The URL's port must be one of 1 to 65535.")
    return int(text)


def _target(text: str) -> bytes:
    """Path and query as they are sent; what a URL cannot hold is encoded."""
    try:
        return quote(text if text.startswith("/") else f"/{text}", safe=_TARGET_SAFE).encode()
    except UnicodeEncodeError:
        raise UnusableUrl("The URL has half of a character: encode it as UTF-8.") from None
