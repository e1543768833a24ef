"""Jobs by where they stand: the sorted sets and counts that transitions keep beside the records."""

from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis

from jobs.connect import text
from jobs.keys import Keys
from schemas.names import Departure, Status
from schemas.settings import Settings


@dataclass(frozen=True)
class Census:
    """How many jobs stand where: queued, running, and ended without being pinned.

    `departed` are those that are there no more, since the installation began.
    """

    jobs: dict[str, int]
    departed: dict[Departure, int]
    stored_bytes: int
    webhooks: int


class JobIndexes:
    """Which jobs are queued, running, ended, to be removed: as `jobs.transitions` keeps it.

    Noted here alone: which queued jobs have no ticket, and whose bytes are gone.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)
        self._lease_ms = settings.lease_seconds * 1000
        self._result_ms = settings.result_ttl * 1000

    def first_queued(self) -> str | None:
        """The id of the job whose turn it is."""
        head = self._redis.zrange(self._keys.queued, 0, 0)
        return text(head[0]) if head else None

    def queued(self) -> list[str]:
        """Ids of all queued jobs, next first."""
        return [text(member) for member in self._redis.zrange(self._keys.queued, 0, -1)]

    def unsent(self, without_ticket: set[str]) -> list[str]:
        """Which of these queued jobs to send to the workers again.

        Those that were without a ticket for a whole lease: a worker that has just taken a ticket
        has not started its job yet. Of several callers one gets each job.
        """
        missing, now = self._keys.missing, self._server_ms()
        known = {text(member) for member in self._redis.zrange(missing, 0, -1)}
        if found := known - without_ticket:
            self._redis.zrem(missing, *found)
        if not without_ticket:
            return []
        self._redis.zadd(missing, dict.fromkeys(without_ticket, now), nx=True)
        overdue = self._redis.zrangebyscore(missing, "-inf", now - self._lease_ms)
        claimed = (text(member) for member in overdue)
        return [job_id for job_id in claimed if self._redis.zrem(missing, job_id)]

    def lost(self) -> Iterator[tuple[str, str]]:
        """Running jobs whose lease has run out, as (job id, fencing token).

        None while the server has been up for less than a lease: while it was down no worker could
        prolong its own, so silence says nothing yet.
        """
        if self._redis.info("server")["uptime_in_seconds"] * 1000 < self._lease_ms:
            return
        for member in self._redis.zrangebyscore(self._keys.running, "-inf", self._server_ms()):
            job_id = text(member)
            status, token = self._redis.hmget(self._keys.record(job_id), ("status", "token"))
            if status == Status.RUNNING.encode():
                yield job_id, text(token)

    def overdue(self, most: int) -> list[str]:
        """Ids of jobs that were kept as long as they are to be, the oldest first."""
        if not self._result_ms:
            return []
        end = self._server_ms() - self._result_ms
        found = self._redis.zrangebyscore(self._keys.ended, "-inf", end, start=0, num=most)
        return [text(member) for member in found]

    def oldest(self, most: int) -> list[str]:
        """Ids of jobs that are not pinned and whose bytes may make room, the oldest first."""
        return [text(member) for member in self._redis.zrange(self._keys.spare, 0, most - 1)]

    def stored_bytes(self) -> int:
        """Bytes of all artifacts that some job holds."""
        return int(self._redis.get(self._keys.stored) or 0)

    def dead_attempts(self) -> Iterator[tuple[str, str]]:
        """Attempts that can write no more and whose bytes no one will ever read, as (id, token)."""
        due = self._redis.zrangebyscore(self._keys.garbage, "-inf", self._server_ms())
        for member in due:
            job_id, _, token = text(member).partition("/")
            yield job_id, token

    def forget_attempt(self, job_id: str, token: str) -> None:
        """Say that the bytes of a dead attempt are gone."""
        self._redis.zrem(self._keys.garbage, f"{job_id}/{token}")

    def census(self) -> Census:
        """How many jobs stand where. One round trip."""
        keys = self._keys
        with self._redis.pipeline(transaction=True) as pipe:
            for index in (keys.queued, keys.running, keys.ended, keys.outbox):
                pipe.zcard(index)
            pipe.get(keys.stored)
            pipe.hmget(keys.departed, *Departure)
            queued, running, ended, outbox, stored, gone = pipe.execute()
        jobs = {"queued": queued, "running": running, "ended": ended}
        departed = {why: int(count or 0) for why, count in zip(Departure, gone, strict=True)}
        return Census(jobs, departed, int(stored or 0), outbox)

    def _server_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000
