"""Which queued jobs may run together: small ones that need the same pass through the same models.

A model reads all its weights however short the text is, so a pass over many short texts costs
little more than one over a single text. Jobs are gathered when a worker becomes free, never waited
for: an idle service starts each job at once.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from redis import Redis

from jobs.connect import text
from jobs.keys import Keys
from schemas.request import JobRequest
from schemas.settings import Settings

# UTF-8 bytes of a job's texts, which are no fewer than its tokens: a job of more fills the
# processor by itself. And of all texts of jobs that run together.
_SMALL = 1 << 10
_TOGETHER = 1 << 13
# Jobs at the head of the queue that are looked at.
_LOOKAHEAD = 128


def pass_of(request: JobRequest) -> str:
    """A name of the pass that a request needs, the same for all that can share it.

    Empty for a job that shares with nobody: its texts are long, it runs the model again in ways of
    its own, or it keeps its tensors to its end, when those of all that run together would be in
    memory.
    """
    own = (request.knowledge_neurons, request.perturbation, request.universality)
    if request.tensors or any(own) or text_bytes(request) > _SMALL:
        return ""
    attention, neurons = request.attention, request.neurons
    read = None if attention is None else [sorted(attention.methods), attention.layers]
    seen = None if neurons is None else [neurons.blocks, neurons.attribution]
    needs = json.dumps([request.models, request.layers, read, seen])
    return hashlib.sha256(needs.encode()).hexdigest()[:16]


def text_bytes(request: JobRequest) -> int:
    """UTF-8 bytes of all texts of a request."""
    return sum(len(text.encode()) for text in request.texts)


@dataclass(frozen=True)
class Waiting:
    """What the record of a queued job says about whom it can run with.

    `alone`: a worker died of it, or of one that ran beside it.
    """

    job_id: str
    pass_name: str
    alone: bool
    caller: str
    text_bytes: int


_FIELDS = ("pass", "alone", "caller", "text_bytes")


class Gathering:
    """Finds the queued jobs that can run beside one."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)
        self._most = settings.jobs_together

    def companions(self, job_id: str) -> list[str]:
        """Queued jobs to run beside this one, in the order in which to run them.

        Callers take turns, so that the many jobs of one take only the places that others leave.
        Two round trips, one if the job shares with nobody.
        """
        if self._most == 1:
            return []
        head, *_ = self._read([job_id])
        if not head.pass_name or head.alone:
            return []
        queued = self._redis.zrange(self._keys.queued, 0, _LOOKAHEAD - 1)
        others = [other for member in queued if (other := text(member)) != job_id]
        return list(choose(head, self._read(others), self._most - 1)) if others else []

    def _read(self, job_ids: list[str]) -> list[Waiting]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(self._keys.record(job_id), _FIELDS)
            answers = pipe.execute()
        return [_waiting(job_id, values) for job_id, values in zip(job_ids, answers, strict=True)]


def choose(head: Waiting, others: Iterable[Waiting], room: int) -> Iterator[str]:
    """At most `room` jobs that can run beside `head`; `others` in the order of the queue."""
    alike = [job for job in others if job.pass_name == head.pass_name and not job.alone]
    served, turns = Counter([head.caller]), []
    for job in alike:
        turns.append((served[job.caller], job))
        served[job.caller] += 1
    left = _TOGETHER - head.text_bytes
    for _, job in sorted(turns, key=lambda turn: turn[0])[:room]:
        left -= job.text_bytes
        if left < 0:
            return
        yield job.job_id


def _waiting(job_id: str, values: list[bytes | None]) -> Waiting:
    name, alone, caller, size = (text(value or b"") for value in values)
    return Waiting(job_id, name, alone == "1", caller, int(size or 0))
