"""What pages of other origins may do with this service from a browser (the Fetch standard)."""

from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import Scope

RawHeaders = tuple[tuple[bytes, bytes], ...]

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_ALLOWED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, "
    "Last-Event-ID, Range, X-Request-Id"
)
_EXPOSED = (
    b"Accept-Ranges, Allow, Content-Disposition, Content-Range, Deprecation, ETag, "
    b"Idempotency-Replayed, Link, Location, RateLimit, RateLimit-Policy, Repr-Digest, "
    b"Retry-After, Sunset, WWW-Authenticate, X-Request-Id"
)
# Seconds that a browser need not ask again; none keeps it for longer.
_MAX_AGE = 7200


class Cors:
    """The origins that are let in: `*` for all, none by default.

    Keys travel in `Authorization`, which a page's script sets itself, so credentials that a browser
    adds by itself (cookies) are never asked for.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = {origin.rstrip("/").lower().encode() for origin in origins}

    def headers(self, scope: Scope) -> RawHeaders:
        """What every response to this request carries; nothing where no origin is let in."""
        if not self._origins:
            return ()
        allowed = self._allowed(scope)
        varies: RawHeaders = () if b"*" in self._origins else ((b"vary", b"Origin"),)
        if allowed is None:
            return varies
        return (
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _EXPOSED),
            *varies,
        )

    def preflight(self, scope: Scope) -> Response | None:
        """The answer to a browser that asks whether it may; None: it is no such question."""
        if scope["method"] != "OPTIONS" or self._allowed(scope) is None:
            return None
        if not _header(scope, b"access-control-request-method"):
            return None
        granted = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _ALLOWED,
            "Access-Control-Max-Age": str(_MAX_AGE),
        }
        return Response(None, 204, granted)

    def _allowed(self, scope: Scope) -> bytes | None:
        """The origin to name as let in; None: the request has none, or one that is not."""
        origin = _header(scope, b"origin") if self._origins else b""
        if not origin:
            return None
        if b"*" in self._origins:
            return b"*"
        return origin if origin.lower() in self._origins else None


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
