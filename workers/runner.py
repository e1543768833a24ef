"""The runner: a long-lived child of the supervisor that holds the device and the models.

It takes attempts from its supervisor's socket, one or several that share a pass through a model,
and runs each inside its own job boundary, where every failure becomes a problem in its record and
no other's. Heavy libraries are imported through `--entry`, once, before it says `ready`.

| message | meaning |
|---|---|
| `ready` | the entry is imported and its runtime open; attempts are welcome |
| `done` | all attempts are over, their records written, or they were not this worker's any more |
| `unfinished` | some have not ended in their records and should run again: `cause` says why |

`done` and `unfinished` carry `models`, the names of the models in memory, and `unusable`, true when
the device answers no more: the supervisor then ends this runner and starts another.
"""

import argparse
import importlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import structlog
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from jobs import Attempt, Jobs, StaleAttempt, open_jobs
from schemas.problem import Problem, ProblemError, ProblemType
from schemas.settings import Settings
from workers import logs
from workers.channel import Channel, Message, attempts_from
from workers.interrupts import Interrupts, TimeLimitReached, Withdrawn, time_limit_problem
from workers.tether import die_with_parent

log = structlog.get_logger("workers.runner")


class Resident(Protocol):
    """What is in memory."""

    def names(self) -> list[str]:
        """Names of the models held."""
        ...


class EntryRuntime(Protocol):
    """What an entry keeps open between jobs."""

    @property
    def models(self) -> Resident:
        """The models held."""
        ...


class Entry(Protocol):
    """The module that does the work: `workers.run`, but for the tests of this file."""

    def open_runtime(self, settings: Settings, jobs: Jobs) -> EntryRuntime:
        """Open, once, all that jobs share."""
        ...

    def start(self, runtime: EntryRuntime, attempts: Sequence[Attempt]) -> list[Iterator[None]]:
        """One iterator an attempt; advanced to its end, in turns, it ends the record or raises."""
        ...


@dataclass
class Turn:
    """An attempt that is under way: what is left of its steps and of its seconds."""

    attempt: Attempt
    steps: Iterator[None]
    seconds: float
    in_company: bool


@dataclass(frozen=True)
class Runner:
    """One runner at work."""

    settings: Settings
    jobs: Jobs
    entry: Entry
    runtime: EntryRuntime
    interrupts: Interrupts

    def serve(self, channel: Channel) -> None:
        """Run attempts until the supervisor is gone."""
        channel.send({"event": "ready", **self._models()})
        while True:
            try:
                message = channel.receive()
            except EOFError:
                return
            if message is not None:
                outcome = self.execute(attempts_from(message))
                unusable = device_is_poisoned()
                if unusable:
                    log.error("the device no longer answers")
                channel.send({**outcome, **self._models(), "unusable": unusable})

    def execute(self, attempts: Sequence[Attempt]) -> Message:
        """Run attempts, a step of each in turn; the message that tells the supervisor."""
        limit, in_company = float(self.settings.job_time_limit), len(attempts) > 1
        started = self.entry.start(self.runtime, attempts)
        turns = deque(
            Turn(attempt, steps, limit, in_company)
            for attempt, steps in zip(attempts, started, strict=True)
        )
        outcome: Message = {"event": "done"}
        while turns:
            turn = turns.popleft()
            bound = {"job": turn.attempt.job_id, "attempt": turn.attempt.number}
            with structlog.contextvars.bound_contextvars(**bound):
                try:
                    if self._advance(turn):
                        turns.append(turn)
                except (StoreConnectionError, StoreTimeoutError) as error:
                    log.error("the store did not take the outcome", error=str(error))
                    outcome = _unfinished(f"the store did not answer ({error})")
            if turns and device_is_poisoned():
                # Whoever comes next would fail for it.
                return _unfinished("the device was left unusable")
        return outcome

    def _advance(self, turn: Turn) -> bool:
        """Run one step of an attempt inside the job boundary; whether it is still to be ended."""
        began = time.monotonic()
        try:
            try:
                with self.interrupts.limit(turn.seconds):
                    next(turn.steps)
            except StopIteration:
                return False
            except (StaleAttempt, StoreConnectionError, StoreTimeoutError):
                raise
            except Withdrawn as withdrawn:
                raise StaleAttempt(turn.attempt.job_id, turn.attempt.number) from withdrawn
            except BaseException as error:  # A job's failure never ends the runner.
                self.interrupts.disarm()
                if turn.in_company and device_is_poisoned():
                    # Whose text did it cannot be told in a shared pass: `execute` gives all back.
                    return True
                self.jobs.store.fail(turn.attempt, self._problem_of(error))
                return False
        except StaleAttempt:
            log.warning("attempt dropped: the job is not this worker's any more")
            return False
        # Zero would leave the next step without a limit.
        turn.seconds = max(turn.seconds - (time.monotonic() - began), 0.001)
        return True

    def _problem_of(self, error: BaseException) -> Problem:
        if isinstance(error, ProblemError):
            cause = None if error.__cause__ is None else str(error.__cause__)
            log.info("job failed", problem=error.kind.slug, detail=str(error), cause=cause)
            return error.problem
        if isinstance(error, TimeLimitReached):
            log.warning("job stopped at its time limit")
            return time_limit_problem(self.settings)
        log.error("job failed unexpectedly", exc_info=error)
        if is_out_of_memory(error):
            free_device_memory()
            return Problem.of(
                ProblemType.OUT_OF_MEMORY,
                "The job needs more memory than this worker has: send fewer or shorter texts, "
                "fewer layers, or `rows` set to `target`.",
            )
        return Problem.of(
            ProblemType.INTERNAL,
            f"The job ended in an unexpected {type(error).__name__}. The worker's log has the "
            "traceback under this job's id; please report it.",
        )

    def _models(self) -> Message:
        return {"models": self.runtime.models.names()}


def _unfinished(cause: str) -> Message:
    return {"event": "unfinished", "cause": cause}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the device ran out of memory."""
    torch = _torch()
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch's CPU allocator has no exception type of its own.
    failed_on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return failed_on_cpu or isinstance(error, MemoryError)


def free_device_memory() -> None:
    """Give back what the failed job left in the device's cache."""
    torch = _torch()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def device_is_poisoned() -> bool:
    """Whether a CUDA error has made this process's context unusable: every call then fails."""
    torch = _torch()
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _torch() -> Any:
    """Torch if the entry brought it along; this module itself works without."""
    return sys.modules.get("torch")


def prepare_environment(settings: Settings) -> None:
    """Thread counts and caches, before the libraries that read them are loaded."""
    if settings.threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ[name] = str(settings.threads)
    # Idle OpenMP threads would otherwise spin on cores that another worker or numba needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    kernels = Path(__file__).parent / "kernels"
    if not os.access(kernels, os.W_OK):
        cache = settings.data_dir.absolute() / "numba"
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache))


def main() -> None:
    """Entry point of `python -m workers.runner`, which only a supervisor calls."""
    parser = argparse.ArgumentParser(prog="workers.runner")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--entry", required=True)
    arguments = parser.parse_args()

    die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(arguments.channel, False)

    settings = Settings()
    logs.configure(settings.log_level)
    prepare_environment(settings)
    interrupts = Interrupts()
    jobs = open_jobs(settings)
    entry = cast(Entry, importlib.import_module(arguments.entry))
    try:
        runtime = entry.open_runtime(settings, jobs)
    except ValueError as error:
        log.error("the runner cannot start", reason=str(error))
        sys.exit(os.EX_CONFIG)
    runner = Runner(settings, jobs, entry, runtime, interrupts)
    runner.serve(Channel(socket.socket(fileno=arguments.channel)))


if __name__ == "__main__":
    main()
