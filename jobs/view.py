"""A record's fields as the job that a client sees."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from jobs.connect import text
from schemas.job import Delivery, Job, Links, Progress
from schemas.names import JOBS_PATH, Departure, Stage, Status
from schemas.problem import Problem
from schemas.request import JobRequest

# What `job_from` reads of a record, in this order; an empty field is one that is not set.
FIELDS = (
    "status",
    "created_at",
    "started_at",
    "finished_at",
    "fraction",
    "stage",
    "detail",
    "attempts",
    "request",
    "error",
    "expires_at",
    "counts",
    "reused_from",
    "pinned",
    "deliveries",
    "revision",
    "owner",
)
_REVISION, _OWNER = FIELDS.index("revision"), FIELDS.index("owner")
# The fields of the progress that a record keeps as one.
COUNTS = {"texts_done", "texts", "layers_done", "layers", "remaining_seconds"}
_UNCOUNTED = Progress().model_dump_json(include=COUNTS).encode()[1:-1]
GONE = frozenset(Departure)
_DELIVERIES = TypeAdapter(list[Delivery])


def path_of(job_id: str) -> str:
    """The job's path on the service."""
    return f"{JOBS_PATH}/{job_id}"


def links_of(job_id: str) -> Links:
    """Where the rest of a job lies."""
    path = path_of(job_id)
    return Links(
        self=path,
        result=f"{path}/result",
        artifacts=f"{path}/artifacts",
        archive=f"{path}/archive",
        events=f"{path}/events",
        cancel=f"{path}/cancel",
    )


def job_from(job_id: str, values: list[bytes | None], rank: int | None) -> Job | None:
    """The job that the answers to `JobStore.stage_get` describe."""
    found = {name: text(value) for name, value in zip(FIELDS, values, strict=True) if value}
    if not found or found["status"] in GONE:
        return None
    return Job(
        **facts_from(job_id, found, rank),
        request=JobRequest.model_validate_json(found["request"]),
        deliveries=_DELIVERIES.validate_json(found.get("deliveries", "[]")),
    )


def facts_from(job_id: str, found: Mapping[str, str], rank: int | None) -> dict[str, Any]:
    """What a job and its summary have in common, from a record's fields that are not empty."""
    return {
        "id": job_id,
        "status": Status(found["status"]),
        "created_at": datetime.fromisoformat(found["created_at"]),
        "started_at": _moment(found.get("started_at")),
        "finished_at": _moment(found.get("finished_at")),
        "expires_at": _moment(found.get("expires_at")),
        "progress": progress_from(found),
        "queue_position": rank,
        "attempts": int(found["attempts"]),
        "error": Problem.model_validate_json(found["error"]) if "error" in found else None,
        "reused_from": found.get("reused_from"),
        "pinned": found.get("pinned") == "1",
        "links": links_of(job_id),
    }


def progress_from(found: Mapping[str, str]) -> Progress:
    """The progress in a record's fields; those that are empty may be missing."""
    counts = json.loads(found["counts"]) if found.get("counts") else {}
    return Progress(
        fraction=float(found["fraction"]),
        stage=Stage(found["stage"]) if found.get("stage") else None,
        detail=found.get("detail", ""),
        **counts,
    )


def job_json(job_id: str, values: list[bytes | None], rank: int | None) -> bytes | None:
    """The JSON of `job_from`, byte by byte, at the cost of a copy of what is stored.

    The request is shown as it was accepted, without being read again.
    """
    found = dict(zip(FIELDS, values, strict=True))
    if found["status"] is None or found["status"].decode() in GONE:
        return None
    path = path_of(job_id).encode()
    return _TEMPLATE % (
        job_id.encode(),
        found["status"],
        _moment_json(found["created_at"]),
        _moment_json(found["started_at"]),
        _moment_json(found["finished_at"]),
        _moment_json(found["expires_at"]),
        to_json(float(found["fraction"] or 0)),
        _word_json(found["stage"]),
        to_json(found["detail"] or b""),
        found["counts"][1:-1] if found["counts"] else _UNCOUNTED,
        b"null" if rank is None else b"%d" % rank,
        found["attempts"] or b"0",
        found["request"] or b"null",
        found["error"] or b"null",
        _word_json(found["reused_from"]),
        b"true" if found["pinned"] == b"1" else b"false",
        found["deliveries"] or b"[]",
        *(path for _ in _LINKS),
    )


_LINKS = ("self", "result", "artifacts", "archive", "events", "cancel")
_TEMPLATE = (
    '{"id":"%b","status":"%b","created_at":%b,"started_at":%b,"finished_at":%b,"expires_at":%b,'
    '"progress":{"fraction":%b,"stage":%b,"detail":%b,%b},"queue_position":%b,"attempts":%b,'
    '"request":%b,"error":%b,"reused_from":%b,"pinned":%b,"deliveries":%b,"links":{'
    + ",".join(f'"{name}":"%b{"" if name == "self" else f"/{name}"}"' for name in _LINKS)
    + "}}"
).encode()


def _moment_json(moment: bytes | None) -> bytes:
    """A moment as the script writes it, in milliseconds, as pydantic does, in microseconds."""
    if not moment:
        return b"null"
    whole, _, milliseconds = moment[:-1].partition(b".")
    return b'"%bZ"' % whole if milliseconds == b"000" else b'"%b000Z"' % moment[:-1]


def _word_json(word: bytes | None) -> bytes:
    """A word of letters, digits and underscores, or null."""
    return b'"%b"' % word if word else b"null"


def departure(values: list[bytes | None]) -> Departure | None:
    """Why a job is there no more; None for one that is there, and for one that never was."""
    status = text(values[0] or b"")
    return Departure(status) if status in GONE else None


def tag_of(values: list[bytes | None], rank: int | None) -> str:
    """A weak validator (RFC 9110, section 8.8.1) of the job as it is shown."""
    revision = text(values[_REVISION] or b"0")
    return f'W/"{revision}"' if rank is None else f'W/"{revision}.{rank}"'


def owner_of(values: list[bytes | None]) -> str:
    """The key that made the job; empty where nobody asked for one."""
    return text(values[_OWNER] or b"")


def has_ended(values: list[bytes | None]) -> bool:
    """Whether the record's status is one that stays."""
    return Status(text(values[0])).terminal


def _moment(found: str | None) -> datetime | None:
    return datetime.fromisoformat(found) if found else None
