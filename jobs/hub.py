"""Everything of a job opened together: record, queue, artifacts, presence."""

from dataclasses import dataclass

from redis import Redis

from jobs.artifacts import ArtifactStore
from jobs.connect import connect
from jobs.gathering import Gathering
from jobs.presence import Presence
from jobs.queue import JobQueue
from jobs.reader import JobReader
from jobs.store import JobStore
from jobs.view import job_from
from schemas.job import Job
from schemas.request import JobRequest
from schemas.settings import Settings


@dataclass(frozen=True)
class Jobs:
    """What the service and the workers share."""

    store: JobStore
    queue: JobQueue
    artifacts: ArtifactStore
    presence: Presence
    gathering: Gathering
    redis: Redis
    reader: JobReader

    def submit(self, request: JobRequest, caller: str = "") -> Job:
        """Accept a request: record, queue entry and the returned view, in one transaction.

        When this returns, the job survives the death of any process. `caller` as in
        `JobStore.stage_create`. One round trip.
        """
        job_id = self.store.new_id()
        with self.redis.pipeline(transaction=True) as pipe:
            self.queue.stage_submit(pipe, job_id)
            self.store.stage_create(pipe, job_id, request, caller)
            self.store.stage_get(pipe, job_id)
            values, rank = pipe.execute()[-2:]
        job = job_from(job_id, values, rank)
        if job is None:
            raise RuntimeError(f"job {job_id} was written but is not there: is the store evicting?")
        return job

    def close(self) -> None:
        """Give the connections back."""
        self.reader.close()
        self.redis.close()


def open_jobs(settings: Settings) -> Jobs:
    """Open the store, queue, artifacts and presence that the settings name."""
    redis = connect(settings)
    return Jobs(
        store=JobStore(redis, settings),
        queue=JobQueue(redis, settings),
        artifacts=ArtifactStore(settings),
        presence=Presence(redis, settings),
        gathering=Gathering(redis, settings),
        redis=redis,
        reader=JobReader(settings),
    )
