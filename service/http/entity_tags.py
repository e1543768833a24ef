"""Entity tags in the headers of a request (RFC 9110, sections 8.8.3, 13.1.1 and 13.1.2)."""

from fastapi import Request

_WEAK = "W/"
_ANY = "*"


def is_named(request: Request, header: str, tag: str) -> bool:
    """Whether a header names this state, by the weak comparison; one that is absent names none."""
    found = _tags(request, header)
    return _ANY in found or _opaque(tag) in map(_opaque, found)


def is_named_exactly(request: Request, header: str, tag: str) -> bool:
    """Whether a header names these very bytes, by the strong comparison."""
    found = _tags(request, header)
    return _ANY in found or (tag in found and not tag.startswith(_WEAK))


def _tags(request: Request, header: str) -> set[str]:
    lines = request.headers.getlist(header)
    return {tag.strip() for line in lines for tag in line.split(",")}


def _opaque(tag: str) -> str:
    return tag.removeprefix(_WEAK)
