"""Stored bytes as responses: validators, conditional and range requests, HEAD (RFC 9110)."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from schemas.problem import FieldError, Problem, ProblemError, ProblemType
from service.delivery.ranges import RangeNotSatisfiable, requested_span
from service.http.boundary import IS_HEAD
from service.http.entity_tags import is_named, is_named_exactly
from service.problems import problem_response

IMMUTABLE = "private, max-age=31536000, immutable"


@dataclass(frozen=True)
class Representation:
    """Bytes that never change, and how to read some of them.

    `read` gives the bytes of a span in pieces and raises before the first what can be known then;
    what comes is never shorter than the span. `digest` is the SHA-256 of all bytes, where it is
    known.
    """

    tag: str
    size: int
    media_type: str
    disposition: str
    read: Callable[[range], Iterator[bytes]]
    digest: bytes | None = None

    def headers(self) -> dict[str, str]:
        """What every response that carries any of the bytes says of them all."""
        said = {
            "ETag": self.tag,
            "Cache-Control": IMMUTABLE,
            "Accept-Ranges": "bytes",
            "Content-Disposition": self.disposition,
        }
        if self.digest is not None:
            said["Repr-Digest"] = f"sha-256=:{base64.b64encode(self.digest).decode()}:"
        return said


def deliver(representation: Representation, request: Request) -> Response:
    """The bytes that a request asks for, if it still needs them.

    Raises ProblemError: PRECONDITION_FAILED, and whatever `read` raises.
    """
    tag, size = representation.tag, representation.size
    asked = request.headers
    if "if-match" in asked and not is_named_exactly(request, "if-match", tag):
        raise _unexpected()
    if is_named(request, "if-none-match", tag):
        return Response(None, 304, {"ETag": tag, "Cache-Control": IMMUTABLE})
    if request.scope.get(IS_HEAD):
        # A range is defined for GET alone.
        headers = representation.headers() | {"Content-Length": str(size)}
        return Response(None, 200, headers, representation.media_type)
    try:
        span = requested_span(asked.getlist("range"), size) if _range_holds(request, tag) else None
    except RangeNotSatisfiable:
        return _not_satisfiable(size)
    return _response(representation, span)


def _response(representation: Representation, span: range | None) -> Response:
    """A span of the bytes as 206, or all of them."""
    sent = range(representation.size) if span is None else span
    headers = representation.headers() | {"Content-Length": str(len(sent))}
    if span is not None:
        last = span.stop - 1
        headers["Content-Range"] = f"bytes {span.start}-{last}/{representation.size}"
    status = 200 if span is None else 206
    return StreamingResponse(representation.read(sent), status, headers, representation.media_type)


def _range_holds(request: Request, tag: str) -> bool:
    """Whether Range is to be read: If-Range holds only for the very bytes; no date is known."""
    return request.headers.get("if-range", tag).strip() == tag


def _unexpected() -> ProblemError:
    detail = (
        "The bytes here never change, and are not those that `If-Match` names. "
        "Send the request without it to get them."
    )
    error = FieldError(parameter="If-Match", detail=detail)
    return ProblemError(ProblemType.PRECONDITION_FAILED, detail, [error])


def _not_satisfiable(size: int) -> Response:
    detail = f"There are {size} bytes here, and `Range` asks for others: ask for some below {size}."
    problem = Problem.of(
        ProblemType.RANGE_NOT_SATISFIABLE, detail, [FieldError(parameter="Range", detail=detail)]
    )
    headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
    return problem_response(problem, headers)
