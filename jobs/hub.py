"""Everything of a job opened together: record, queue, artifacts, presence."""

import logging
from dataclasses import dataclass, field

from redis import Redis

from jobs.artifacts import ArtifactStore
from jobs.connect import connect, text
from jobs.gathering import Gathering
from jobs.indexes import JobIndexes
from jobs.listing import JobListing
from jobs.presence import Presence
from jobs.queue import JobQueue
from jobs.reader import JobReader
from jobs.store import JobStore
from jobs.submission import KeyReused, QueueFull, Terms, TokensSpent
from jobs.view import job_from
from schemas.job import Job
from schemas.names import Departure, Status
from schemas.request import JobRequest
from schemas.settings import Settings

_PLAIN = Terms()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submitted:
    """What came of a submission. `job` is None when the job it once made is there no more.

    `is_replay`: its idempotency key had made the job before.
    """

    id: str
    job: Job | None
    is_replay: bool = False


@dataclass(frozen=True)
class Jobs:
    """What the service and the workers share.

    stuck: the tokens of attempts whose bytes this process could not remove, and has told of.
    """

    store: JobStore
    indexes: JobIndexes
    queue: JobQueue
    artifacts: ArtifactStore
    presence: Presence
    gathering: Gathering
    listing: JobListing
    redis: Redis
    reader: JobReader
    stuck: set[str] = field(default_factory=set)

    def submitted(self, request: JobRequest, owner: str, once: str) -> Submitted | None:
        """What the owner's request has made under an idempotency key; None where it is new.

        Raises KeyReused.
        """
        job_id = self.store.made_by(request, owner, once)
        return None if job_id is None else self._made_before(job_id)

    def submit(self, request: JobRequest, terms: Terms = _PLAIN) -> Submitted:
        """Accept a request: record, queue entry and the returned view, in one transaction.

        When this returns, the job survives the death of any process. One round trip, and another
        where the job needs no worker of its own. Raises KeyReused, QueueFull
        and TokensSpent.
        """
        job_id = self.store.new_id()
        with self.redis.pipeline(transaction=True) as pipe:
            ticket = self.queue.stage_submit(pipe, job_id)
            self.store.stage_create(pipe, job_id, request, terms)
            self.store.stage_get(pipe, job_id)
            (outcome, stands), values, rank = pipe.execute()[-3:]
        if outcome != b"queued":
            self.queue.take_back(ticket)
        match outcome:
            case b"other":
                raise KeyReused
            case b"full":
                raise QueueFull
            case b"spent":
                raise TokensSpent.told(text(stands))
            case b"same":
                return self._made_before(text(stands))
        return Submitted(job_id, job_from(job_id, values, rank))

    def _made_before(self, job_id: str) -> Submitted:
        return Submitted(job_id, self.store.get(job_id), is_replay=True)

    def cancel(self, job_id: str) -> Status | None:
        """End a job as cancelled; its status then, or None when there is no such job."""
        cancelled = self.store.cancel(job_id)
        if cancelled is None:
            return None
        status, heir = cancelled
        if heir:
            self.queue.submit(heir)
        return status

    def remove(self, job_id: str, why: Departure) -> bool:
        """Remove a job and what it holds; whether there was one.

        It is gone although its bytes cannot be removed now: they are tried again by each sweep.
        """
        was_there = self.take_away(job_id, why)
        self.discard_garbage()
        return was_there

    def take_away(self, job_id: str, why: Departure) -> bool:
        """`remove` a job, but for its bytes: `discard_garbage` is to follow."""
        heir = self.store.remove(job_id, why)
        if heir:
            self.queue.submit(heir)
        return heir is not None

    def discard_garbage(self) -> list[str]:
        """Remove the bytes that no one will ever read again; ids of the jobs that wrote them.

        What cannot be removed now is logged once, keeps nothing else from going, and is tried
        again.
        """
        discarded = []
        for job_id, token in self.indexes.dead_attempts():
            try:
                self.artifacts.discard(job_id, token)
            except OSError as error:
                if token not in self.stuck:
                    self.stuck.add(token)
                    _log.error("bytes that no job holds stay for now: %s", error)
                continue
            self.stuck.discard(token)
            self.indexes.forget_attempt(job_id, token)
            discarded.append(job_id)
        return discarded

    def close(self) -> None:
        """Give the connections back."""
        self.reader.close()
        self.redis.close()


def open_jobs(settings: Settings) -> Jobs:
    """Open the store, queue, artifacts and presence that the settings name."""
    redis = connect(settings)
    return Jobs(
        store=JobStore(redis, settings),
        indexes=JobIndexes(redis, settings),
        queue=JobQueue(redis, settings),
        artifacts=ArtifactStore(settings),
        presence=Presence(redis, settings),
        gathering=Gathering(redis, settings),
        listing=JobListing(redis, settings),
        redis=redis,
        reader=JobReader(settings),
    )
