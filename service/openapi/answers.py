"""What the OpenAPI document says of what an answer carries: headers, contents, problems."""

from datetime import UTC, datetime

from schemas.job import JobEvent, Progress
from schemas.names import Happening, Status
from schemas.problem import ProblemType
from service.openapi.parts import REFERENCE, Json, answer_header

POLL_HEADERS: Json = {
    "Retry-After": answer_header(
        "Seconds until asking again makes sense; absent once the job has ended"
    )
}
STATE_HEADERS: Json = {
    "ETag": answer_header("Names how the job stands, for If-None-Match: a weak validator"),
    **POLL_HEADERS,
}
SUBMIT_HEADERS: Json = {
    "Location": answer_header("Path of the job on this service"),
    "Idempotency-Replayed": answer_header("`true` where this key had made the job before"),
    **POLL_HEADERS,
}
_VALIDATORS: Json = {
    "ETag": answer_header(
        "A validator: the SHA-256 of the bytes, or of the digests of an archive's"
    ),
    "Cache-Control": answer_header("The bytes never change"),
}
ARCHIVE_HEADERS: Json = _VALIDATORS | {
    "Accept-Ranges": answer_header("`bytes`: any part can be had by itself"),
    "Content-Disposition": answer_header("The name to save it under"),
}
FILE_HEADERS: Json = ARCHIVE_HEADERS | {
    "Repr-Digest": answer_header(
        "SHA-256 of all bytes (RFC 9530); absent where they are compressed"
    )
}
PART_HEADERS: Json = FILE_HEADERS | {"Content-Range": answer_header("Which bytes, and of how many")}
NOT_MODIFIED: Json = {"description": "If-None-Match names the bytes", "headers": _VALIDATORS}


EVENTS: Json = {
    "description": "Events named `status` and `progress`, each with an `id` and a `JobEvent` as "
    "`data`; comments in between keep the connection open",
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "required": ["event", "id", "data"],
                "properties": {
                    "event": {"type": "string", "enum": list(Happening)},
                    "id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": REFERENCE.format(model="JobEvent")},
                    },
                },
            },
            "example": "retry: 2000\n\nevent: progress\nid: 1767225601000-0\ndata: "
            + JobEvent(
                at=datetime(2026, 1, 1, second=1, tzinfo=UTC),
                status=Status.RUNNING,
                attempts=1,
                progress=Progress(fraction=0.4),
            ).model_dump_json()
            + "\n\n",
        }
    },
}


def success(
    description: str, model: str, example: str | None = None, headers: Json | None = None
) -> Json:
    """A response that carries a model of the contract, and the name of its example."""
    content: Json = {"schema": {"$ref": REFERENCE.format(model=model)}}
    if example is not None:
        content["examples"] = {example: _example_reference(example)}
    described: Json = {"description": description, "content": {"application/json": content}}
    return described | ({"headers": headers} if headers else {})


def _example_reference(name: str) -> Json:
    return {"$ref": f"#/components/examples/{name}"}


_BINARY: Json = {"schema": {"type": "string", "format": "binary"}}


def file_content() -> Json:
    """A response that carries the bytes of a file of any kind."""
    document = {"schema": {"$ref": REFERENCE.format(model="ResultDocument")}}
    return {
        "image/png": _BINARY,
        "application/json": document,
        "application/octet-stream": _BINARY,
    }


def part_content() -> Json:
    """A response that carries some bytes of a file, which are no JSON where the file is."""
    return {"image/png": _BINARY, "application/json": {}, "application/octet-stream": _BINARY}


ARCHIVE: Json = {"application/zip": _BINARY}


def problems(*kinds: ProblemType) -> dict[int | str, Json]:
    """Responses for the problems a route is known to answer with, and for any other."""
    responses: dict[int | str, Json] = {}
    for kind in kinds:
        described = responses.setdefault(kind.status, _problem(kind.title))
        if kind.title not in described["description"]:
            described["description"] += f"; or: {kind.title}"
        content = described["content"]["application/problem+json"]
        content.setdefault("examples", {})[kind.slug] = _example_reference(kind.slug)
    responses["default"] = _problem("Any other problem")
    return responses


def _problem(description: str) -> Json:
    schema = {"$ref": REFERENCE.format(model="Problem")}
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": schema}},
    }
