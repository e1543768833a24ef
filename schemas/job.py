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
    texts_done: int | None = Field(
        default=None, ge=0, description="Texts that have passed, over all models; null: unknown yet"
    )
    texts: int | None = Field(default=None, ge=0, description="Texts times models")
    layers_done: int | None = Field(
        default=None, ge=0, description="Layers analysed, over all texts and models"
    )
    layers: int | None = Field(default=None, ge=0, description="Layers to analyse, over all texts")
    remaining_seconds: float | None = Field(
        default=None,
        ge=0.0,
        description="An estimate of the time to the job's end; null while nothing is known",
    )


class Links(Contract):
    """Where the rest of the job lies, as paths on this service."""

    self: str
    result: str
    artifacts: str
    archive: str
    events: str
    cancel: str


class Delivery(Contract):
    """One attempt to deliver a job's webhook."""

    attempt: int = Field(ge=1)
    at: datetime
    status: int | None = Field(default=None, description="HTTP status of the answer; null: none")
    error: str | None = Field(default=None, description="Why it did not arrive; null: it did")
    next_at: datetime | None = Field(
        default=None, description="When it is tried again; null: it arrived, or was given up"
    )


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
    reused_from: str | None = Field(
        default=None, description="The equal job whose result this one shares; null: its own"
    )
    pinned: bool = Field(
        default=False, description="Whether its result is kept: it neither expires nor is evicted"
    )
    deliveries: list[Delivery] = Field(
        default_factory=list, description="What became of the webhook, first attempt first"
    )
    links: Links


class JobSummary(Contract):
    """A job in a list: all of it but its request."""

    id: str
    status: Status
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    progress: Progress = Progress()
    queue_position: int | None = Field(default=None, ge=0)
    attempts: int = Field(default=0, ge=0)
    models: list[str]
    texts: int = Field(ge=1, description="How many texts it is about")
    metadata: dict[str, str] = Field(default_factory=dict)
    error: Problem | None = None
    reused_from: str | None = None
    pinned: bool = False
    links: Links


class JobList(Contract):
    """One page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(
        default=None,
        description="Give it as `cursor` for the next page, which may be empty; null: the last",
    )


class JobEvent(Contract):
    """What happened to a job, as the event stream tells it; its `id` is the event's own."""

    at: datetime
    status: Status
    attempts: int = Field(ge=0)
    progress: Progress = Progress()


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
    crc32: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8}$",
        description="CRC-32 of the bytes, as zip has it; null: written by an early version",
    )
    shows: Shows = Shows()
    href: str = Field(default="", description="Path of the bytes on this service")


class ArtifactList(Contract):
    """Every artifact of a job."""

    job_id: str
    artifacts: list[Artifact]
