"""An event of a job, as a stream keeps it and as the channel of changes tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from pydantic_core import from_json, to_json

from jobs.connect import text
from jobs.view import COUNTS
from schemas.job import Progress
from schemas.names import Happening, Status

_UNCOUNTED = Progress().model_dump(include=COUNTS)
_GONE = "gone"
TERMINAL = frozenset(status for status in Status if status.terminal)


@dataclass(frozen=True)
class Event:
    """One event. `fields` are those of the stream's entry."""

    id: str
    kind: str
    fields: Mapping[str, str]

    @classmethod
    def stored(cls, entry: Sequence[Any]) -> Self:
        """From an entry of the job's stream."""
        event_id, pairs = entry
        words = iter([text(word) for word in pairs])
        fields = dict(zip(words, words, strict=True))
        return cls(text(event_id), fields["type"], fields)

    @classmethod
    def told(cls, message: bytes) -> tuple[str, Self]:
        """The job's id and the event, from a message on the channel of changes."""
        fields = from_json(message)
        return fields["job"], cls(fields.get("event", ""), fields["type"], fields)

    @cached_property
    def is_progress(self) -> bool:
        """Whether a later event makes this one needless."""
        return self.kind == Happening.PROGRESS

    @cached_property
    def is_last(self) -> bool:
        """Whether the job has ended with it."""
        return self.fields.get("status") in TERMINAL

    @cached_property
    def is_departure(self) -> bool:
        """Whether the job is there no more; that is told on the channel alone."""
        return self.kind == _GONE

    @cached_property
    def data(self) -> bytes:
        """The JSON of `schemas.job.JobEvent`, on one line."""
        found = self.fields
        counts = from_json(found["counts"]) if found.get("counts") else _UNCOUNTED
        shown = {
            "at": datetime.fromisoformat(found["at"]),
            "status": found["status"],
            "attempts": int(found["attempts"]),
            "progress": {
                "fraction": float(found["fraction"] or 0),
                "stage": found["stage"] or None,
                "detail": found["detail"],
                **counts,
            },
        }
        return to_json(shown)

    @cached_property
    def frame(self) -> bytes:
        """The event as an event stream carries it, made once for all who watch."""
        return b"event: %b\nid: %b\ndata: %b\n\n" % (
            self.kind.encode(),
            self.id.encode(),
            self.data,
        )
