"""A request's body: read under a limit, parsed as strict JSON."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastapi import Request

from schemas.problem import FieldError, ProblemError, ProblemType

# No field takes a number near this long, and int() of a longer one costs the square of its length.
_MAX_DIGITS = 40
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")

# How many faults a problem lists. More help nobody, and would answer a small body with a large one.
MAX_FAULTS = 50


async def read_body(request: Request, limit: int, seconds: float) -> bytearray:
    """The body of a JSON request, holding at most `limit` bytes of it at any time.

    Raises ProblemError: UNSUPPORTED_MEDIA_TYPE; BODY_TOO_LARGE at once by Content-Length and
    otherwise as soon as the bytes that came are too many; REQUEST_TIMEOUT when the body is not
    there within `seconds`.
    """
    _check_headers(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                if len(body) + len(piece) > limit:
                    raise _too_large(limit)
                body += piece
    except TimeoutError as error:
        raise ProblemError(
            ProblemType.REQUEST_TIMEOUT,
            f"The body was not complete after {seconds:g} seconds. Send all of it at once.",
        ) from error
    return body


def _check_headers(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    if not is_json:
        raise ProblemError(
            ProblemType.UNSUPPORTED_MEDIA_TYPE,
            f"The body came as `{kind[:100] or 'no type'}`. "
            "Send JSON with the header `Content-Type: application/json`.",
        )
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise ProblemError(
            ProblemType.UNSUPPORTED_MEDIA_TYPE,
            f"The body came as `Content-Encoding: {coding[:100]}`. Send it without a coding.",
        )


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        ProblemType.BODY_TOO_LARGE,
        f"A body may have at most {limit} bytes. Send fewer or shorter texts a job.",
    )


@dataclass(frozen=True)
class _Flaw:
    """Stands in the parsed value where the body holds what is not to be taken."""

    kind: ProblemType
    detail: str


_NOT_TEXT = _Flaw(
    ProblemType.INVALID_REQUEST,
    r"A \uD800-\uDFFF escape without its other half is no character: remove it.",
)
# Made once each: a hostile body holds a million of them.
_NO_NUMBER = {
    name: _Flaw(ProblemType.MALFORMED_JSON, f"JSON has no {name}: give a number, or null.")
    for name in ("NaN", "Infinity", "-Infinity")
}


class _Repeated(dict[str, Any]):
    """An object that names a key twice, so that nobody knows which value is meant."""

    repeats: Sequence[str] = ()


class _Parser:
    """json.loads with hooks that mark what JSON proper, or sense, forbids."""

    def __init__(self) -> None:
        self.is_flawed = False

    def parse(self, text: str) -> Any:
        return json.loads(
            text,
            parse_constant=self._constant,
            parse_int=self._integer,
            object_pairs_hook=self._object,
        )

    def _constant(self, name: str) -> _Flaw:
        self.is_flawed = True
        return _NO_NUMBER[name]

    def _integer(self, digits: str) -> int | _Flaw:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        self.is_flawed = True
        return _Flaw(
            ProblemType.INVALID_REQUEST, f"A number of {len(digits)} digits is too long here."
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.is_flawed = True
        counts = Counter(name for name, _ in pairs)
        repeated = _Repeated(found)
        repeated.repeats = [name for name in found if counts[name] > 1]
        return repeated


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in a body.

    Refuses what readers of JSON disagree about: NaN and Infinity, keys named twice, strings that
    are no Unicode text, numbers without end. Raises ProblemError with the pointer of each.
    """
    parser = _Parser()
    try:
        value = parser.parse(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        what = "it is empty" if not body.strip() else f"{error.msg} at {where}"
        raise _malformed(what) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    if parser.is_flawed or _SURROGATE_ESCAPE.search(body):
        _refuse(list(islice(_flaws(value), MAX_FAULTS)))
    if not isinstance(value, dict):
        raise ProblemError(
            ProblemType.INVALID_REQUEST,
            'The body must be a JSON object such as {"texts": ["..."]}.',
            [FieldError(pointer="", detail="Give an object.")],
        )
    return value


def _malformed(what: str) -> ProblemError:
    return ProblemError(ProblemType.MALFORMED_JSON, f"The body cannot be read as JSON: {what}.")


def _refuse(flaws: list[tuple[str, _Flaw]]) -> None:
    if not flaws:
        return
    kinds = {flaw.kind for _, flaw in flaws}
    malformed = ProblemType.MALFORMED_JSON
    kind = malformed if malformed in kinds else ProblemType.INVALID_REQUEST
    errors = [FieldError(pointer=p, detail=flaw.detail) for p, flaw in flaws]
    raise ProblemError(kind, f"{errors[0].pointer or 'The body'}: {errors[0].detail}", errors)


def _flaws(value: Any) -> Iterator[tuple[str, _Flaw]]:
    """(JSON pointer, flaw) of everything marked in a parsed value, and of what is no text.

    Depth first with a stack of its own, and lazy: whoever wants the first few pays for no more.
    """
    stack: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    while stack:
        pointer, item = next(stack[-1], (None, None))
        if pointer is None:
            stack.pop()
        elif isinstance(item, _Flaw):
            yield pointer, item
        elif isinstance(item, str) and not _is_text(item):
            yield pointer, _NOT_TEXT
        elif isinstance(item, list):
            stack.append(_members(pointer, enumerate(item)))
        elif isinstance(item, dict):
            for name in getattr(item, "repeats", ()):
                detail = f"The key `{_shown(name)[:60]}` stands here twice: keep one."
                yield pointer_to(pointer, name), _Flaw(ProblemType.INVALID_REQUEST, detail)
            if not all(map(_is_text, item)):
                yield pointer, _NOT_TEXT
            stack.append(_members(pointer, item.items()))


def _members(pointer: str, members: Iterable[tuple[str | int, Any]]) -> Iterator[tuple[str, Any]]:
    return ((pointer_to(pointer, step), member) for step, member in members)


def _is_text(string: str) -> bool:
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(string: str) -> str:
    return string.encode("utf-8", "backslashreplace").decode()


def pointer_to(parent: str, step: str | int) -> str:
    """The JSON pointer (RFC 6901) of a member of what `parent` points to."""
    return f"{parent}/{_shown(str(step)).replace('~', '~0').replace('/', '~1')}"
