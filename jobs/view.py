"""A record's fields as the job that a client sees."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from jobs.connect import text
from schemas.job import Delivery, Job, Links, Progress
from schemas.names import API_VERSION, Departure, Stage, Status
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
# The fields of the progress that a record keeps as one.
COUNTS = {"texts_done", "texts", "layers_done", "layers", "remaining_seconds"}
_UNCOUNTED = Progress().model_dump(include=COUNTS)
_GONE = frozenset(Departure)
_DELIVERIES = TypeAdapter(list[Delivery])


def path_of(job_id: str) -> str:
    """The job's path on the service."""
    return f"/{API_VERSION}/jobs/{job_id}"


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
    if not found or found["status"] in _GONE:
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
    """The JSON of `job_from`, byte by byte, at the cost of a copy of what is stored as JSON.

    The request is shown as it was accepted, without being read again.
    """
    found = dict(zip(FIELDS, values, strict=True))
    if found["status"] is None or found["status"].decode() in _GONE:
        return None
    counts = from_json(found["counts"]) if found["counts"] else _UNCOUNTED
    head = {
        "id": job_id,
        "status": found["status"],
        "created_at": _moment(text(found["created_at"])),
        "started_at": _moment(text(found["started_at"] or "")),
        "finished_at": _moment(text(found["finished_at"] or "")),
        "expires_at": _moment(text(found["expires_at"] or "")),
        "progress": {
            "fraction": float(found["fraction"] or 0),
            "stage": found["stage"] or None,
            "detail": found["detail"] or "",
            **counts,
        },
        "queue_position": rank,
        "attempts": int(found["attempts"] or 0),
    }
    parts = (
        b'"request":%b' % (found["request"] or b"null"),
        b'"error":%b' % (found["error"] or b"null"),
        b'"reused_from":%b' % to_json(found["reused_from"] or None),
        b'"pinned":true' if found["pinned"] == b"1" else b'"pinned":false',
        b'"deliveries":%b' % (found["deliveries"] or b"[]"),
        b'"links":%b' % _links_json(job_id),
    )
    return b"%b,%b}" % (to_json(head)[:-1], b",".join(parts))


def _links_json(job_id: str) -> bytes:
    path = path_of(job_id).encode()
    names = (b"result", b"artifacts", b"archive", b"events", b"cancel")
    others = b"".join(b',"%b":"%b/%b"' % (name, path, name) for name in names)
    return b'{"self":"%b"%b}' % (path, others)


def departure(values: list[bytes | None]) -> Departure | None:
    """Why a job is there no more; None for one that is there, and for one that never was."""
    status = text(values[0] or b"")
    return Departure(status) if status in _GONE else None


def tag_of(values: list[bytes | None], rank: int | None) -> str:
    """A weak validator (RFC 9110, section 8.8.1) of the job as it is shown."""
    revision = text(values[FIELDS.index("revision")] or b"0")
    return f'W/"{revision}"' if rank is None else f'W/"{revision}.{rank}"'


def owner_of(values: list[bytes | None]) -> str:
    """The key that made the job; empty where nobody asked for one."""
    return text(values[FIELDS.index("owner")] or b"")


def has_ended(values: list[bytes | None]) -> bool:
    """Whether the record's status is one that stays."""
    return Status(text(values[0])).terminal


def _moment(found: str | None) -> datetime | None:
    return datetime.fromisoformat(found) if found else None
