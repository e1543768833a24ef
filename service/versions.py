"""The versions of the API, and how one of them, or an operation, is told to be on its way out.

Deprecated: it works as before, but new programs should use its successor (RFC 9745). After its
sunset it may be gone (RFC 8594).
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.names import API_VERSION


@dataclass(frozen=True)
class Deprecation:
    """Since when something is deprecated, when it may go, both in UTC, and the path to use instead.

    The successor of an operation may hold `{name}` of what its own path holds; that of a version is
    the beginning of its paths, `/v2`.
    """

    since: datetime
    sunset: datetime | None = None
    successor: str | None = None


Deprecations = Mapping[str, Deprecation]

# Oldest first.
VERSIONS = (API_VERSION,)
DEPRECATED_VERSIONS: Deprecations = {}
# By operation id.
DEPRECATED_OPERATIONS: Deprecations = {}

_VERSIONED = re.compile(r"/(v[0-9][A-Za-z0-9._-]{0,20})(?=/|$)")


def unknown_version(path: str) -> str | None:
    """The version that a path asks for, if there is none such."""
    found = _VERSIONED.match(path)
    return found[1] if found and found[1] not in VERSIONS else None


def marked(
    routes: Iterable[BaseRoute],
    versions: Deprecations = DEPRECATED_VERSIONS,
    operations: Deprecations = DEPRECATED_OPERATIONS,
) -> Iterator[BaseRoute]:
    """The same routes; those that are deprecated say so in every answer and in OpenAPI."""
    for route in routes:
        deprecation = None
        if isinstance(route, APIRoute):
            deprecation = operations.get(route.unique_id) or _of_version(route, versions)
        yield route if deprecation is None else _deprecated(route, deprecation)


def _of_version(route: APIRoute, versions: Deprecations) -> Deprecation | None:
    found = _VERSIONED.match(route.path_format)
    deprecation = versions.get(found[1]) if found else None
    if found is None or deprecation is None or deprecation.successor is None:
        return deprecation
    return replace(deprecation, successor=deprecation.successor + route.path_format[found.end() :])


def _deprecated(route: BaseRoute, deprecation: Deprecation) -> APIRoute:
    # A copy, because every application of a process is made of the same routes.
    found = copy.copy(route)
    assert isinstance(found, APIRoute)
    found.deprecated = True
    found.app = _Announcing(found.app, deprecation)
    return found


class _Announcing:
    """ASGI application: another one, whose every response says that it is deprecated."""

    def __init__(self, app: ASGIApp, deprecation: Deprecation) -> None:
        self._app = app
        self._successor = deprecation.successor
        self._headers = [(b"deprecation", b"@%d" % deprecation.since.timestamp())]
        if deprecation.sunset is not None:
            date = format_datetime(deprecation.sunset, usegmt=True)
            self._headers.append((b"sunset", date.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self._headers, *self._link(scope["path_params"])]

        async def announce(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, announce)

    def _link(self, parameters: Mapping[str, object]) -> Iterator[tuple[bytes, bytes]]:
        if self._successor is not None:
            values = {name: quote(str(value)) for name, value in parameters.items()}
            path = self._successor.format(**values)
            yield b"link", f'<{path}>; rel="successor-version"'.encode()
