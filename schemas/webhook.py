"""What a job's receiver is sent when the job has ended (Standard Webhooks 1.0)."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.base import Contract
from schemas.job import Links
from schemas.names import Status
from schemas.problem import Problem

EventType = Literal["job.succeeded", "job.failed", "job.cancelled"]


class JobOutcome(Contract):
    """A job that has ended, without its request; `links` lead to the rest."""

    id: str
    status: Status
    created_at: datetime
    finished_at: datetime
    error: Problem | None = Field(default=None, description="Why the job failed; else null")
    links: Links
    metadata: dict[str, str] = Field(default_factory=dict, description="As it was sent in")
    reused_from: str | None = Field(
        default=None, description="The equal job whose result this one shares; null: its own"
    )


class WebhookEvent(Contract):
    """The body of a webhook."""

    type: EventType
    timestamp: datetime = Field(description="When the job ended; the same at every attempt")
    data: JobOutcome
