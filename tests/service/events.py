"""A reader of event streams that a test can be sure of: it knows nothing of how they are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from schemas.job import JobEvent


@dataclass(frozen=True)
class Told:
    """One event as a client gets it."""

    name: str
    id: str
    event: JobEvent

    @property
    def short(self) -> str:
        return f"{self.event.status} {self.event.progress.detail}".strip()


def told(lines: Iterator[str]) -> Iterator[Told]:
    """The events in a stream's lines, until it ends."""
    fields: dict[str, str] = {}
    comments = 0
    for line in lines:
        comments += line.startswith(":")
        assert comments < 3, "nothing was told for longer than a test should wait"
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            assert name not in fields
            fields[name] = value
        elif "data" in fields:
            assert set(fields) == {"event", "id", "data"}
            event = JobEvent.model_validate_json(fields["data"])
            assert fields["data"] == event.model_dump_json()
            yield Told(fields["event"], fields["id"], event)
            fields = {}
        elif fields:
            assert set(fields) == {"retry"}
            fields = {}
    assert not fields, "the stream ended within an event"


@contextmanager
def watching(
    client: httpx.Client, job_id: str, after: str | None = None
) -> Iterator[Iterator[Told]]:
    """The events of a job, for as long as the block lasts."""
    headers = {} if after is None else {"Last-Event-ID": after}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200
        yield told(response.iter_lines())


def all_told(client: httpx.Client, job_id: str, after: str | None = None) -> list[Told]:
    """The events of a job until its stream ends."""
    with watching(client, job_id, after) as events:
        return list(events)
