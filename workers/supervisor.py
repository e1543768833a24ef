"""The supervisor: an RQ worker whose work horse lives on from job to job.

It takes tickets from the queue, takes the job in the record (`JobStore.start`), sends the attempt
to the runner and watches it: the lease is renewed while the runner lives, a runner that dies or
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
from typing import Any

import structlog
from redis.client import Pipeline
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError
from rq import Queue, Worker
from rq.exceptions import DeserializationError, StopRequested
from rq.executions import Execution
from rq.job import Job as Ticket
from rq.serializers import JSONSerializer
from rq.timeouts import HorseMonitorTimeoutException
from rq.utils import now
from rq.worker import WorkerStatus

from jobs import Attempt, Jobs, StaleAttempt
from jobs.connect import connect
from jobs.queue import FUNCTION
from schemas.settings import Settings
from workers.announcer import Announcer
from workers.channel import Message, attempts_message
from workers.endings import Ending, settle
from workers.processes import RunnerProcess, describe_end

ENTRY = "workers.run"
WORKER_TTL = 30
RUNNER_START_LIMIT = 300.0
"""Seconds a runner may take to import its libraries."""

# Seconds; RQ takes a worker for dead that was silent for WORKER_TTL and a minute.
_RECENT_HEARTBEAT = WORKER_TTL / 2
# Above the dequeue timeout that RQ derives from WORKER_TTL, with room for a slow network.
_RQ_SOCKET_TIMEOUT = WORKER_TTL + 10.0

# Seconds between looks at whether a running job was cancelled or deleted.
_LOOK_INTERVAL = 1

# Seconds to wait for more small jobs where some are waiting already: a client that posts many is
# then still at it. A job that comes alone never waits.
_GATHERING_WINDOW = 0.005

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
        self._attempts: list[Attempt] = []
        self._report: Message = {}
        self._status = 0
        self._kill_at = 0.0
        self._renew_at = 0.0
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
            job_monitoring_interval=_LOOK_INTERVAL,
            log_job_description=False,
        )

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

    def _keep_runner(self) -> None:
        if self._runner is not None:
            if not self._runner.dead:
                return
            status, _ = self._runner.reap()
            log.warning("the runner ended between jobs", cause=describe_end(status))
        self._runner = RunnerProcess.start(self._entry)
        log.info("runner started", runner=self._runner.pid)
        if self._runner.await_ready(RUNNER_START_LIMIT, self._woken):
            log.info("ready", worker=self.name, queue=self._jobs.queue.name)
            return
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
        self._keep_runner()
        attempts = self._take(job)
        if not attempts:
            self._drop_ticket(job, queue)
            return
        self._attempts, self._report = attempts, {}
        self._kill_at = time.monotonic() + self._settings.job_time_limit + self._settings.kill_grace
        self._renew_at = time.monotonic() + self._settings.lease_seconds / 3
        execution = self.prepare_execution(job)
        self.prepare_job_execution(job, remove_from_intermediate_queue=True)
        started = time.monotonic()
        for attempt in attempts:
            log.info("job started", job=attempt.job_id, attempt=attempt.number)
        try:
            self.fork_work_horse(job, queue)
            ending = self._watch(job, execution)
            if self._report.get("unusable"):
                self._end_runner()
            self._finish_ticket(job, execution)
            settle(self._jobs, self._settings, attempts, ending, self._cause())
        finally:
            self._attempts = []
            self._horse_pid = 0
        seconds = round(time.monotonic() - started, 3)
        for attempt in attempts:
            log.info("job over", job=attempt.job_id, ending=ending.name.lower(), seconds=seconds)
        self.set_state(WorkerStatus.IDLE)

    def fork_work_horse(self, job: Ticket, queue: Queue) -> None:
        """Send the attempts to the runner; a runner that has died is noticed by the watch."""
        runner = self._at_work()
        self._horse_pid = runner.pid
        try:
            runner.channel.send(attempts_message(self._attempts))
        except OSError as error:
            log.warning("the runner does not listen", error=str(error))
            runner.kill()

    def wait_for_horse(self) -> tuple[int, int, Any]:
        """The runner's pid and 0 when it reported, or its true wait status when it died.

        Raises HorseMonitorTimeoutException after `job_monitoring_interval` without either.
        """
        runner = self._at_work()
        left = max(0.0, self._kill_at - time.monotonic())
        try:
            message = runner.channel.receive(min(left, self.job_monitoring_interval), self._woken)
        except EOFError:
            status, usage = runner.reap()
            return runner.pid, status, usage
        if message is None:
            raise HorseMonitorTimeoutException
        self._report = message
        runner.models = message["models"]
        return runner.pid, 0, None

    def maintain_heartbeats(self, job: Ticket, execution: Execution) -> None:
        """Renew the leases and RQ's heartbeats. Raises StaleAttempt when none is left to renew."""
        held, lost = 0, None
        for attempt in self._attempts:
            try:
                self._jobs.store.renew(attempt)
                held += 1
            except StaleAttempt as stale:
                # In company it may as well have ended; the runner notices if it was taken away.
                lost = stale
        super().maintain_heartbeats(job, execution)
        if lost is not None and not held:
            raise lost

    def _take(self, ticket: Ticket) -> list[Attempt]:
        """The attempt that a ticket allows and its companions; none if nothing is to be run."""
        try:
            function, arguments = ticket.func_name, ticket.args
        except DeserializationError:
            function, arguments = None, ()
        match arguments:
            case [str()] if function == FUNCTION:
                return self._start_next()
        log.error("ticket refused: it names another function", ticket=ticket.id, function=function)
        return []

    def _start_next(self) -> list[Attempt]:
        """Start the job whose turn it is and those to run beside it; none if none is queued."""
        while (job_id := self._jobs.store.first_queued()) is not None:
            attempts = self._start(job_id, self._companions(job_id))
            if attempts:
                return attempts
        return []

    def _companions(self, job_id: str) -> list[str]:
        """Jobs to run beside this one; where there are any, more may be about to come."""
        found = self._jobs.gathering.companions(job_id)
        if 0 < len(found) < self._settings.jobs_together - 1:
            time.sleep(_GATHERING_WINDOW)
            found = self._jobs.gathering.companions(job_id)
        return found

    def _start(self, job_id: str, companions: list[str]) -> list[Attempt]:
        """Start a job and, if it starts, its companions."""
        start, in_company = self._jobs.store.start, bool(companions)
        attempt = start(job_id, self.name, in_company=in_company)
        if attempt is None:
            return []
        started = (start(other, self.name, in_company=True) for other in companions)
        beside = [other for other in started if other is not None]
        if beside:
            self._jobs.queue.withdraw(len(beside))
        return [attempt, *beside]

    def _watch(self, job: Ticket, execution: Execution) -> Ending:
        """Wait until the attempts are over, one way or another, keeping their leases meanwhile."""
        runner = self._at_work()
        withdrawn = False
        while True:
            try:
                _, self._status, _ = self.wait_for_horse()
            except HorseMonitorTimeoutException:
                pass
            else:
                return self._ending(withdrawn)
            if self._stop_requested:
                runner.reap()
                return Ending.STOPPED
            if time.monotonic() >= self._kill_at:
                runner.reap()
                return Ending.WITHDRAWN if withdrawn else Ending.OVERDUE
            if not withdrawn:
                withdrawn = self._taken_away(job, execution)

    def _taken_away(self, job: Ticket, execution: Execution) -> bool:
        """Keep the leases; if all are lost, ask the runner to drop its work, soon by force."""
        if self._holds_any(job, execution):
            return False
        for attempt in self._attempts:
            log.warning("the job was taken away", job=attempt.job_id, attempt=attempt.number)
        self._at_work().withdraw()
        self._kill_at = min(self._kill_at, time.monotonic() + self._settings.kill_grace)
        return True

    def _holds_any(self, job: Ticket, execution: Execution) -> bool:
        """Whether any job is still to be run; the leases are renewed when it is time for that."""
        now = time.monotonic()
        try:
            if now < self._renew_at:
                return bool(self._jobs.store.held(self._attempts))
            self._renew_at = now + self._settings.lease_seconds / 3
            self.maintain_heartbeats(job, execution)
        except StaleAttempt:
            return False
        except (StoreConnectionError, StoreTimeoutError) as error:
            log.warning("leases not renewed", job=self._attempts[0].job_id, error=str(error))
        return True

    def _ending(self, withdrawn: bool) -> Ending:
        """What a report, or the death of the runner, means."""
        if self._report:
            unfinished = self._report["event"] == "unfinished"
            return Ending.UNFINISHED if unfinished else Ending.REPORTED
        if withdrawn:
            return Ending.WITHDRAWN
        past_limit = time.monotonic() >= self._kill_at - self._settings.kill_grace
        return Ending.OVERDUE if past_limit else Ending.DIED

    def _cause(self) -> str:
        """Why the runner left attempts unfinished, in its own words or by how it died."""
        return str(
            self._report.get("cause") or f"the runner ended with {describe_end(self._status)}"
        )

    def _drop_ticket(self, ticket: Ticket, queue: Queue) -> None:
        queue.intermediate_queue.remove(ticket.id)
        ticket.delete()

    def _finish_ticket(self, ticket: Ticket, execution: Execution) -> None:
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(ticket, pipeline, execution)
            pipeline.execute()
        ticket.delete()

    def _at_work(self) -> RunnerProcess:
        if self._runner is None or not self._attempts:
            raise RuntimeError("no attempt is running")
        return self._runner
