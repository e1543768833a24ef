"""What a runner runs in these tests instead of the real analysis: it does as the request says.

`metadata.do` names the behaviour. With `metadata.until`, attempts from that number on just
succeed.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

from jobs import Attempt, Jobs
from schemas.job import Shows
from schemas.names import RESULT_FILE, ArtifactKind
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings


@dataclass
class Memory:
    held: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return self.held


@dataclass
class Runtime:
    settings: Settings
    jobs: Jobs
    models: Memory = field(default_factory=Memory)


def open_runtime(settings: Settings, jobs: Jobs) -> Runtime:
    return Runtime(settings, jobs)


def start(runtime: Runtime, attempts: Sequence[Attempt]) -> list[Iterator[None]]:
    return [run(runtime, attempt, len(attempts)) for attempt in attempts]


def run(runtime: Runtime, attempt: Attempt, together: int) -> Iterator[None]:
    asked = attempt.request.metadata
    yield
    if attempt.number >= int(asked.get("until", "1000")):
        succeed(runtime, attempt, together)
    else:
        BEHAVIOURS[asked.get("do", "succeed")](runtime, attempt, together)


def succeed(runtime: Runtime, attempt: Attempt, together: int) -> None:
    runtime.models.held = list(attempt.request.models)
    told = json.dumps(
        {"pid": os.getpid(), "attempt": attempt.number, "together": together}
    ).encode()
    writer = runtime.jobs.artifacts.writer(attempt)
    kind, media = ArtifactKind.RESULT, "application/json"
    runtime.jobs.store.succeed(attempt, [writer.put(RESULT_FILE, told, kind, media, Shows())])


def sleep(runtime: Runtime, attempt: Attempt, together: int) -> None:
    for _ in range(6000):
        time.sleep(0.01)


def deaf(runtime: Runtime, attempt: Attempt, together: int) -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            continue


def die(runtime: Runtime, attempt: Attempt, together: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def problem(runtime: Runtime, attempt: Attempt, together: int) -> None:
    raise ProblemError(ProblemType.TRACE_MISMATCH, "the rebuilt output is off by 0.5")


def bug(runtime: Runtime, attempt: Attempt, together: int) -> None:
    raise ZeroDivisionError("secret detail")


def leave(runtime: Runtime, attempt: Attempt, together: int) -> None:
    sys.exit(3)


def exit_quietly(runtime: Runtime, attempt: Attempt, together: int) -> None:
    os._exit(0)


def memory(runtime: Runtime, attempt: Attempt, together: int) -> None:
    raise MemoryError


def poison(runtime: Runtime, attempt: Attempt, together: int) -> None:
    """As on a GPU after a failed device-side assertion: from now on every call fails."""

    def synchronize() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    broken = ModuleType("torch")
    vars(broken).update(cuda=cuda, OutOfMemoryError=MemoryError)
    sys.modules["torch"] = broken
    synchronize()


BEHAVIOURS = {
    "succeed": succeed,
    "sleep": sleep,
    "deaf": deaf,
    "die": die,
    "problem": problem,
    "bug": bug,
    "leave": leave,
    "exit_quietly": exit_quietly,
    "memory": memory,
    "poison": poison,
}
