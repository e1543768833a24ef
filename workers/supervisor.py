"""The supervisor: an RQ worker whose work horse lives on from job to job.

It takes tickets from the queue, starts the job in the record (`turns`), sends the attempt to the
runner and watches it (`watch`): the lease is renewed while the runner lives, a runner that dies or
outstays its time is reaped and replaced, and the job goes back to the queue at once. It never
imports what the runner needs to compute, so it starts at once, stays small and cannot be taken
down by a job.

RQ is transport only. Its callbacks, results and webhooks are never used: a ticket is deleted
once its attempt is over, whatever the outcome, which stands in the record.
"""

import math
import os
import secrets
import socket
import time
from datetime import timedelta
from types import FrameType

import structlog
from redis.client import Pipeline
from rq import Queue, Worker
from rq.exceptions import DeserializationError, StopRequested
from rq.executions import Execution
from rq.job import Job as Ticket
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus

from jobs import Attempt, Jobs
from jobs.connect import connect
from jobs.queue import FUNCTION
from schemas.settings import Settings
from workers.announcer import Announcer
from workers.endings import settle
from workers.processes import RunnerProcess, describe_end
from workers.turns import Turns
from workers.watch import LOOK_INTERVAL, Watch

ENTRY = "workers.run"
WORKER_TTL = 30
RUNNER_START_LIMIT = 300.0
"""Seconds a runner may take to import its libraries."""

# Seconds; RQ takes a worker for dead that was silent for WORKER_TTL and a minute.
_RECENT_HEARTBEAT = WORKER_TTL / 2
# Above the dequeue timeout that RQ derives from WORKER_TTL, with room for a slow network.
_RQ_SOCKET_TIMEOUT = WORKER_TTL + 10.0

log = structlog.get_logger("workers.supervisor")


class Supervisor(Worker):
    """Runs the tickets of one queue in a persistent runner.

    A stop (SIGTERM, SIGINT) does not wait for the running job, which may take half an hour: the
    runner is killed, the job goes back to the queue and the supervisor leaves within seconds. The
    job's `attempts` counts that run too, but a stop, however often, never fails a job.
    """

    max_connection_wait_time = 5.0

    def __init__(self, settings: Settings, jobs: Jobs, entry: str = ENTRY) -> None:
        self._settings = settings
        self._jobs = jobs
        self._entry = entry
        self._runner: RunnerProcess | None = None
        self._dequeueing = False
        self._failed = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        super().__init__(
            [jobs.queue.name],
            # A name that comes back after a kill -9 would be refused by RQ as still alive.
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            connection=connect(settings, socket_timeout=_RQ_SOCKET_TIMEOUT),
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL,
            job_monitoring_interval=LOOK_INTERVAL,
            log_job_description=False,
        )
        self._turns = Turns(jobs, settings, self.name)

    def serve(self) -> bool:
        """Work until told to stop; whether the end was asked for. Raises RedisError.

        An idle worker waits for as long as the store is away; one that must write to it to go on
        ends, and whoever started it starts it again.
        """
        announcer = Announcer(self._jobs.presence, self.name, lambda: self._runner)
        announcer.start()
        try:
            self.work(logging_level="WARNING")
        finally:
            self._end_runner()
            announcer.stop()
        return self._stop_requested and not self._failed

    # Between jobs

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether there is no live runner. What RQ would tidy up, the reaper does."""
        return self._runner is None or self._runner.dead

    def run_maintenance_tasks(self) -> None:
        """See to it that a runner is ready."""
        self._keep_runner()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Ticket, Queue] | None:
        """Wait for a ticket; only here may a stop interrupt whatever is going on."""
        self._dequeueing = True
        try:
            if self._stop_requested:
                raise StopRequested
            return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        finally:
            self._dequeueing = False

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Tell RQ that this worker lives, in one round trip.

        RQ tells it between a ticket's arrival and the job's start too, where each of its writes
        would have the job wait for the disk: there a recent one must do.
        """
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        if self._dequeueing and self._age_of_heartbeat() < _RECENT_HEARTBEAT:
            return
        with self.connection.pipeline() as together:
            super().heartbeat(timeout, together)
            together.execute()

    def _age_of_heartbeat(self) -> float:
        if self.last_heartbeat is None:
            return math.inf
        age: timedelta = now() - self.last_heartbeat
        return age.total_seconds()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Leave: at once when idle, else as soon as the job is back in the queue."""
        self._stop_requested = True
        os.write(self._wake, b"x")
        if self._dequeueing:
            raise StopRequested

    def teardown(self) -> None:
        """Leave nothing behind."""
        self._end_runner()
        super().teardown()  # type: ignore[no-untyped-call]

    def _keep_runner(self) -> RunnerProcess:
        if self._runner is not None:
            if not self._runner.dead:
                return self._runner
            status, _ = self._runner.reap()
            log.warning("the runner ended between jobs", cause=describe_end(status))
        self._runner = RunnerProcess.start(self._entry)
        log.info("runner started", runner=self._runner.pid)
        if self._runner.await_ready(RUNNER_START_LIMIT, self._woken):
            log.info("ready", worker=self.name, queue=self._jobs.queue.name)
            return self._runner
        status, _ = self._runner.reap()
        self._runner = None
        if not self._stop_requested:
            log.error("the runner did not start", cause=describe_end(status))
            self._failed = True
        raise StopRequested

    def _end_runner(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.reap()

    # One job

    def execute_job(self, job: Ticket, queue: Queue) -> None:
        """Take the job a ticket names and those to run beside it, and settle how they ended."""
        runner, attempts = self._keep_runner(), self._take(job)
        if not attempts:
            self._drop_ticket(job, queue)
            return
        watch = Watch(self._jobs, self._settings, runner, attempts, self._woken)
        execution = self.prepare_execution(job)
        self.prepare_job_execution(job, remove_from_intermediate_queue=True)
        started = time.monotonic()
        for attempt in attempts:
            log.info("job started", job=attempt.job_id, attempt=attempt.number)
        try:
            # What RQ's own tools kill, when they are told to.
            self._horse_pid = runner.pid
            watch.begin()
            ending = watch.until_over(
                renewed=lambda: self.maintain_heartbeats(job, execution),
                stopped=lambda: self._stop_requested,
            )
            if watch.left_unusable:
                self._end_runner()
            self._finish_ticket(job, execution)
            settle(self._jobs, self._settings, attempts, ending, watch.cause)
        finally:
            self._horse_pid = 0
        seconds = round(time.monotonic() - started, 3)
        for attempt in attempts:
            log.info("job over", job=attempt.job_id, ending=ending.name.lower(), seconds=seconds)
        self.set_state(WorkerStatus.IDLE)

    def _take(self, ticket: Ticket) -> list[Attempt]:
        """The attempt that a ticket allows and its companions; none if nothing is to be run."""
        try:
            function, arguments = ticket.func_name, ticket.args
        except DeserializationError:
            function, arguments = None, ()
        match arguments:
            case [str()] if function == FUNCTION:
                return self._turns.start_next()
        log.error("ticket refused: it names another function", ticket=ticket.id, function=function)
        return []

    def _drop_ticket(self, ticket: Ticket, queue: Queue) -> None:
        queue.intermediate_queue.remove(ticket.id)
        ticket.delete()

    def _finish_ticket(self, ticket: Ticket, execution: Execution) -> None:
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(ticket, pipeline, execution)
            pipeline.execute()
        ticket.delete()
