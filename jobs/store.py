"""The job record: the truth about every job, and the only way to change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from redis import Redis

from jobs.connect import text
from jobs.identity import JobIds, is_job_id, new_token
from jobs.keys import Keys
from jobs.submission import KeyReused, Terms, creation, digest
from jobs.transitions import SCRIPT
from jobs.view import COUNTS, FIELDS, GONE, job_from, path_of
from schemas.job import Artifact, Job, Progress
from schemas.names import Departure, Status
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings

_ARTIFACTS = TypeAdapter(list[Artifact])
_PLAIN = Terms()


class StaleAttempt(Exception):  # noqa: N818 - the name says what it is; it is no failure of the job
    """The attempt no longer holds its job, so what it wanted to write was refused. Drop it."""

    def __init__(self, job_id: str, number: int) -> None:
        super().__init__(f"attempt {number} does not hold job {job_id} any more")
        self.job_id = job_id
        self.number = number


@dataclass(frozen=True)
class Attempt:
    """One run of a job by one worker; `token` is the right to write its outcome."""

    job_id: str
    token: str
    number: int
    request: JobRequest


@dataclass(frozen=True)
class StoredArtifacts:
    """The artifacts of a succeeded job, and the run, a job's attempt, under which their bytes lie.

    `run_of` is the job itself, or the equal one whose result it shares.
    """

    job_id: str
    run_of: str
    token: str
    artifacts: list[Artifact]


@dataclass(frozen=True)
class Standing:
    """Whose a job is and where it stands, or why it is there no more."""

    owner: str
    status: Status | Departure


class JobStore:
    """Job records in Redis. Every change is one atomic script (see `jobs.transitions`).

    Ids may come straight from a URL: one that is unknown or no id at all answers None.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)
        self._ids = JobIds()
        self._lease_ms = settings.lease_seconds * 1000
        self._max_deaths = settings.max_deaths
        self._result_ms = settings.result_ttl * 1000
        self._tombstone_ms = settings.tombstone_ttl * 1000
        # A worker that lost its lease may still write until its supervisor kills it.
        self._zombie_ms = (settings.job_time_limit + settings.kill_grace) * 1000

    def create(self, request: JobRequest, terms: Terms = _PLAIN) -> str:
        """Accept a request as a queued job and return its id; see `stage_create`."""
        job_id = self._ids.next()
        self.stage_create(self._redis, job_id, request, terms)
        return job_id

    def made_by(self, request: JobRequest, owner: str, once: str) -> str | None:
        """The job that a request made under an idempotency key, if it did. Raises KeyReused."""
        said = self._redis.get(self._keys.once(owner, digest(once)))
        if said is None:
            return None
        job_id, body = text(said).split()
        if body != digest(request.model_dump_json()):
            raise KeyReused
        return job_id

    def new_id(self) -> str:
        """An id for `stage_create`."""
        return self._ids.next()

    def stage_create(
        self, commands: Redis, job_id: str, request: JobRequest, terms: Terms = _PLAIN
    ) -> None:
        """Add the creation of a job to a connection or pipeline."""
        self._run("create", job_id, "", *creation(request, terms), commands=commands)

    def stage_get(self, commands: Redis, job_id: str) -> None:
        """Add the two reads that `job_from` understands to a pipeline."""
        commands.hmget(self._keys.record(job_id), FIELDS)
        commands.zrank(self._keys.queued, job_id)

    def get(self, job_id: str) -> Job | None:
        """The job as a client sees it, in one round trip."""
        if not is_job_id(job_id):
            return None
        with self._redis.pipeline(transaction=True) as pipe:
            self.stage_get(pipe, job_id)
            values, rank = pipe.execute()
        return job_from(job_id, values, rank)

    def standing(self, job_id: str) -> Standing | None:
        """Whose a job is and where it stands; None where there never was one."""
        if not is_job_id(job_id):
            return None
        status, owner = _hmget(self._redis, self._keys.record(job_id), "status", "owner")
        if not status:
            return None
        is_gone = status in GONE
        return Standing(owner, Departure(status) if is_gone else Status(status))

    def artifacts(self, job_id: str) -> StoredArtifacts | None:
        """Where a succeeded job's artifacts lie; None before it succeeded, and if it never does."""
        if not is_job_id(job_id):
            return None
        status, run, listed = _hmget(
            self._redis, self._keys.record(job_id), "status", "run", "artifacts"
        )
        if status != Status.SUCCEEDED:
            return None
        run_of, _, token = run.partition("/")
        artifacts = [
            artifact.model_copy(update={"href": f"{path_of(job_id)}/artifacts/{artifact.name}"})
            for artifact in _ARTIFACTS.validate_json(listed)
        ]
        return StoredArtifacts(job_id, run_of, token, artifacts)

    def start(self, job_id: str, worker: str, *, in_company: bool = False) -> Attempt | None:
        """Take a queued job for a worker; None when it is not queued, so there is nothing to do.

        `in_company`: it runs beside other jobs, so a death of the worker may not be its own.
        """
        if not is_job_id(job_id):
            return None
        token = new_token()
        taken = self._run("start", job_id, token, worker, self._lease_ms, int(in_company))
        if taken is None:
            return None
        attempts, request = taken
        return Attempt(job_id, token, int(attempts), JobRequest.model_validate_json(request))

    def renew(self, attempt: Attempt) -> None:
        """Prolong the attempt's lease. Raises StaleAttempt."""
        self._write(attempt, "renew", self._lease_ms)

    def held(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Those that still hold their jobs, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for attempt in attempts:
                pipe.hmget(self._keys.record(attempt.job_id), "status", "token")
            answers = pipe.execute()
        held = ([Status.RUNNING.encode(), attempt.token.encode()] for attempt in attempts)
        return [one for one, own, now in zip(attempts, held, answers, strict=True) if own == now]

    def progress(self, attempt: Attempt, progress: Progress) -> None:
        """Say how far the attempt is; a smaller fraction than before is kept at the former.

        Prolongs the lease too. Raises StaleAttempt.
        """
        self._write(
            attempt,
            "progress",
            self._lease_ms,
            repr(progress.fraction),
            progress.stage or "",
            progress.detail,
            progress.model_dump_json(include=COUNTS),
        )

    def succeed(self, attempt: Attempt, artifacts: list[Artifact]) -> None:
        """End the job as succeeded: from here on readers see all its artifacts, before none.

        The bytes must be stored before (`ArtifactWriter.put` returns when they are).
        Raises StaleAttempt.
        """
        size = sum(artifact.size for artifact in artifacts)
        self._write(attempt, "succeed", _ARTIFACTS.dump_json(artifacts), size)

    def fail(self, attempt: Attempt, problem: Problem) -> None:
        """End the job as failed with this problem. Raises StaleAttempt."""
        self._write(attempt, "fail", problem.model_dump_json())

    def give_up(
        self,
        job_id: str,
        token: str | None,
        cause: str,
        *,
        expired_only: bool = False,
        died: bool = True,
    ) -> Status | None:
        """Take a running job away from a worker that died or was stopped, naming the cause.

        `token` None means whoever holds it; `expired_only` leaves a holder alone whose lease still
        runs. The job is queued again, at its old place, or after its last allowed death fails as
        `worker-lost`; with `died` False, for a planned stop, nothing is counted, nor for a death in
        company, after which the job runs alone. Returns the new status, or None when there was
        nothing to take away.
        """
        if not is_job_id(job_id):
            return None
        problem = Problem.of(
            ProblemType.WORKER_LOST,
            f"The worker died {self._max_deaths} times on this job, the last time: {cause}. "
            "Try fewer or shorter texts or fewer layers; the operator's log has the details.",
        )
        status = self._run(
            "give_up",
            job_id,
            token or "",
            int(expired_only),
            int(died),
            self._max_deaths,
            problem.model_dump_json(),
            self._zombie_ms,
        )
        return None if status is None else Status(text(status))

    def cancel(self, job_id: str) -> tuple[Status, str] | None:
        """End a job as cancelled; one that has ended stays as it is.

        Its status then, and the id of a job to be sent to the workers, which was to have its
        result; empty: none. None when there is no such job.
        """
        answer = self._run("cancel", job_id, "", self._zombie_ms) if is_job_id(job_id) else None
        return None if answer is None else (Status(text(answer[0])), text(answer[1]))

    def remove(self, job_id: str, why: Departure) -> str | None:
        """Remove a job, whatever it does; its bytes go once no other job shares them.

        The id of a job to be sent to the workers, as of `cancel`. None when there is no such job.
        """
        if not is_job_id(job_id):
            return None
        answer = self._run("remove", job_id, "", why, self._zombie_ms)
        return None if answer is None else text(answer[1])

    def pin(self, job_id: str, pinned: bool) -> bool:
        """Keep a job and its result for good, or no more; whether there is such a job."""
        return is_job_id(job_id) and self._run("pin", job_id, "", int(pinned)) is not None

    def fill_spare(self) -> None:
        """Let all that has ended make room, also what did so before there was an index of it.

        A round trip for every thousand ended jobs.
        """
        cursor = None
        while cursor != "0":
            cursor = text(self._run("spare", "", "", cursor or "0"))

    def _write(self, attempt: Attempt, operation: str, *values: str | bytes | int) -> None:
        if self._run(operation, attempt.job_id, attempt.token, *values) != b"ok":
            raise StaleAttempt(attempt.job_id, attempt.number)

    def _run(
        self,
        operation: str,
        job_id: str,
        token: str,
        *values: str | bytes | int,
        commands: Redis | None = None,
    ) -> Any:
        about = (operation, job_id, token, self._keys.prefix, self._result_ms, self._tombstone_ms)
        return (self._redis if commands is None else commands).eval(SCRIPT, 0, *about, *values)


def _hmget(redis: Redis, key: str, *fields: str) -> list[str]:
    """Fields of a hash as strings; a field that is not there is empty."""
    return [text(value or b"") for value in redis.hmget(key, fields)]
