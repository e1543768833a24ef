"""RQ as transport: it carries a job's id to a worker and knows nothing else about it."""

import secrets
from collections.abc import Container
from typing import Final

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.job import Job as RqJob
from rq.registry import clean_registries
from rq.serializers import JSONSerializer

from jobs.connect import text
from schemas.settings import Settings

# The one function a worker will run. Its only argument is the job's id.
FUNCTION: Final = "workers.runner.execute"

# Seconds. RQ's own traces of a job are for looking into a problem, no more.
RESULT_TTL = 60
FAILURE_TTL = 3600


class JobQueue:
    """Sends job ids to the workers through one RQ queue.

    Every submission is an RQ job of its own (a ticket, `{job id}-{nonce}`, arguments `[job id]`),
    so that what RQ does to the ticket of a dead attempt can never touch the next one's. Which job a
    worker then starts is the one whose turn it is, whatever job its ticket was for: a ticket says
    that there is one more to run. One too many is harmless: it finds nothing to start.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.name = settings.key_prefix
        self.rq = Queue(self.name, connection=redis, serializer=JSONSerializer)
        self._redis = redis
        self._time_limit = settings.job_time_limit

    def submit(self, job_id: str, *, first: bool = False) -> None:
        """Send a job to the workers; `first` puts it before all that wait."""
        with self._redis.pipeline(transaction=True) as pipe:
            self.stage_submit(pipe, job_id, first=first)
            pipe.execute()

    def stage_submit(self, pipe: Pipeline, job_id: str, *, first: bool = False) -> str:
        """Add a submission to a pipeline and return its ticket.

        RQ demands that it is the first thing in the pipeline.
        """
        ticket = RqJob.create(
            FUNCTION,
            args=[job_id],
            id=f"{job_id}-{secrets.token_hex(4)}",
            connection=self._redis,
            description=job_id,
            timeout=self._time_limit,
            result_ttl=RESULT_TTL,
            failure_ttl=FAILURE_TTL,
            serializer=JSONSerializer,
        )
        self.rq.enqueue_job(ticket, pipeline=pipe, at_front=first)
        return str(ticket.id)

    def withdraw(self, count: int) -> None:
        """Take as many tickets out of the queue as jobs were started without one.

        Two round trips.
        """
        found = self._redis.lpop(self.rq.key, count) or []
        if found:
            self._redis.delete(*(RqJob.key_for(text(ticket)) for ticket in found))

    def take_back(self, ticket: str) -> None:
        """Take out a ticket that has just been added, if no worker has it yet.

        A worker that has it finds nothing to run and deletes it itself.
        """
        if self._redis.lrem(self.rq.key, -1, ticket):
            self._redis.delete(RqJob.key_for(ticket))

    def waiting(self) -> list[str]:
        """The jobs of the tickets that no worker has taken yet, the next first."""
        return [_job_of(ticket) for ticket in self.rq.get_job_ids()]

    def tidy(self, queued: Container[str]) -> None:
        """Clear what dead workers left in RQ, given the jobs that are still queued.

        A ticket that was taken stays in RQ's intermediate list until its job starts. Those of jobs
        that are not queued any more go; their RQ job then expires by itself, after any worker that
        might still hold it. Executions without a heartbeat end as RQ ends them.
        """
        taken = self.rq.intermediate_queue
        for ticket in taken.get_job_ids():
            if _job_of(ticket) not in queued:
                self._redis.expire(RqJob.key_for(ticket), self._time_limit + FAILURE_TTL)
                taken.remove(ticket)
        clean_registries(self.rq)


def _job_of(ticket: str) -> str:
    return ticket.partition("-")[0]
