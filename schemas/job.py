"""The job as a client sees it, and the artifacts it points to."""

from datetime import datetime

from pydantic import Field

from schemas.base import Contract
from schemas.names import ArtifactKind, Block, Method, Section, Stage, Status
from schemas.problem import Problem
from schemas.request import JobRequest


class Progress(Contract):
    """How far a running job is: `fraction` from 0 to 1, never falling within one attempt."""

    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    stage: Stage | None = None
    detail: str = Field(default="", description="More about the stage, for people")


class Links(Contract):
    """Where the rest of the job lies, as paths on this service."""

    self: str
    result: str
    artifacts: str


class Job(Contract):
    """One analysis job."""

    id: str = Field(examples=["01KAQ3V9Q0Z7X3M5B8F2N6T4RC"], description="Time-ordered")
    status: Status
    created_at: datetime
    started_at: datetime | None = Field(
        default=None, description="Start of the latest attempt; null while the job is queued"
    )
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(
        default=None, description="When the job and its files go; null: they are kept"
    )
    progress: Progress = Progress()
    queue_position: int | None = Field(
        default=None, ge=0, description="Jobs ahead of this one; null unless it is queued"
    )
    attempts: int = Field(default=0, ge=0, description="How often a worker has started it")
    request: JobRequest = Field(description="As it was accepted, with every default filled in")
    error: Problem | None = Field(default=None, description="Why the job failed; else null")
    links: Links


class Shows(Contract):
    """What a figure or tensor file is about; null where it covers several or none."""

    section: Section | None = Field(
        default=None, description="The section of the request that it answers"
    )
    model: str | None = None
    text: int | None = None
    layer: int | None = None
    block: Block | None = None
    method: Method | None = None


class Artifact(Contract):
    """One stored file of a finished job."""

    name: str
    kind: ArtifactKind
    media_type: str
    size: int = Field(ge=0, description="Bytes")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    shows: Shows = Shows()
    href: str = Field(default="", description="Path of the bytes on this service")


class ArtifactList(Contract):
    """Every artifact of a job."""

    job_id: str
    artifacts: list[Artifact]
