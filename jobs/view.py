"""A record's fields as the job that a client sees."""

from datetime import datetime

from pydantic_core import to_json

from jobs.connect import text
from schemas.job import Job, Links, Progress
from schemas.names import API_VERSION, Stage, Status
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
)


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
    if not found:
        return None
    return Job(
        id=job_id,
        status=Status(found["status"]),
        created_at=datetime.fromisoformat(found["created_at"]),
        started_at=_moment(found.get("started_at")),
        finished_at=_moment(found.get("finished_at")),
        progress=Progress(
            fraction=float(found["fraction"]),
            stage=Stage(found["stage"]) if "stage" in found else None,
            detail=found.get("detail", ""),
        ),
        queue_position=rank,
        attempts=int(found["attempts"]),
        request=JobRequest.model_validate_json(found["request"]),
        error=Problem.model_validate_json(found["error"]) if "error" in found else None,
        links=links_of(job_id),
    )


def job_json(job_id: str, values: list[bytes | None], rank: int | None) -> bytes | None:
    """The JSON of `job_from`, byte by byte, at the cost of a copy of what is stored as JSON.

    The request is shown as it was accepted, without being read again.
    """
    if not any(values):
        return None
    found = dict(zip(FIELDS, values, strict=True))
    path = path_of(job_id)
    head = {
        "id": job_id,
        "status": found["status"],
        "created_at": _moment(text(found["created_at"])),
        "started_at": _moment(text(found["started_at"] or "")),
        "finished_at": _moment(text(found["finished_at"] or "")),
        "expires_at": None,
        "progress": {
            "fraction": float(found["fraction"] or 0),
            "stage": found["stage"] or None,
            "detail": found["detail"] or "",
        },
        "queue_position": rank,
        "attempts": int(found["attempts"] or 0),
    }
    links = {"self": path, "result": f"{path}/result", "artifacts": f"{path}/artifacts"}
    return b'%b,"request":%b,"error":%b,"links":%b}' % (
        to_json(head)[:-1],
        found["request"] or b"null",
        found["error"] or b"null",
        to_json(links),
    )


def has_ended(values: list[bytes | None]) -> bool:
    """Whether the record's status is one that stays."""
    return Status(text(values[0])).terminal


def _moment(found: str | None) -> datetime | None:
    return datetime.fromisoformat(found) if found else None
