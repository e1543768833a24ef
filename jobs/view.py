"""A record's fields as the job that a client sees."""

from datetime import datetime

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


def job_from(job_id: str, values: list[bytes | None], rank: int | None) -> Job | None:
    """The job that the answers to `JobStore.stage_get` describe."""
    found = {name: text(value) for name, value in zip(FIELDS, values, strict=True) if value}
    if not found:
        return None
    path = path_of(job_id)
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
        links=Links(self=path, result=f"{path}/result", artifacts=f"{path}/artifacts"),
    )


def _moment(found: str | None) -> datetime | None:
    return datetime.fromisoformat(found) if found else None
