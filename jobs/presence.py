"""Which workers are alive, by what they said last."""

from pydantic import Field
from redis import Redis

from jobs.connect import text
from jobs.keys import Keys
from schemas.base import Contract
from schemas.settings import Settings


class WorkerPresence(Contract):
    """What a worker says about itself."""

    worker: str
    ready: bool = Field(description="Whether it can take a job")
    models: list[str] = Field(description="Models it holds in memory")
    pid: int


class Presence:
    """Announcements of workers; one that is silent for `lease_seconds` is taken for dead."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)
        self._ttl = settings.lease_seconds

    def announce(self, worker: str, *, ready: bool, models: list[str], pid: int) -> None:
        """Say that a worker is alive; repeat it well within `lease_seconds`."""
        said = WorkerPresence(worker=worker, ready=ready, models=models, pid=pid)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(self._keys.workers, worker)
            pipe.set(self._keys.worker(worker), said.model_dump_json(), ex=self._ttl)
            pipe.execute()

    def withdraw(self, worker: str) -> None:
        """Say that a worker is going."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._keys.worker(worker))
            pipe.srem(self._keys.workers, worker)
            pipe.execute()

    def alive(self) -> list[WorkerPresence]:
        """The workers that are alive, by name."""
        names = sorted(text(member) for member in self._redis.smembers(self._keys.workers))
        if not names:
            return []
        said = self._redis.mget([self._keys.worker(name) for name in names])
        silent = [name for name, value in zip(names, said, strict=True) if value is None]
        if silent:
            # One that speaks again right now is back in the set with its next announcement.
            self._redis.srem(self._keys.workers, *silent)
        return [WorkerPresence.model_validate_json(value) for value in said if value is not None]
