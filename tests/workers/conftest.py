"""Workers as real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from jobs import Jobs
from schemas.job import Job
from schemas.names import RESULT_FILE
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.workers.bench import Bench, opened
from workers.interrupts import Interrupts

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


T = TypeVar("T")


def until(ask: Callable[[], T], what: str) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children(pid: int) -> list[int]:
    """The living children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if not gone(int(child))]


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a process reads these settings."""
    ours = {
        f"MAMBASCOPE_{name.upper()}": str(getattr(settings, name))
        for name in settings.model_fields_set - {"redis_url"}
    }
    url = settings.redis_url.get_secret_value()
    return {**os.environ, "MAMBASCOPE_REDIS_URL": url, "PYTHONPATH": str(ROOT), **ours}


@dataclass
class Site:
    """An installation whose workers and jobs a test starts and watches."""

    settings: Settings
    jobs: Jobs
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self, entry: str = "tests.workers.entries") -> subprocess.Popen[bytes]:
        """Start a worker."""
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.workers.serve", entry],
                env=environment(self.settings),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def ready_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it can take a job."""
        process = self.worker()
        alive = self.jobs.presence.alive
        until(lambda: any(w.ready for w in alive() if w.pid == process.pid), "a ready worker")
        return process

    def submit(self, **metadata: str) -> str:
        """Submit a job that does as its metadata says."""
        return self.jobs.submit(JobRequest(texts=["a"], metadata=metadata)).id

    def job(self, job_id: str) -> Job:
        """The job as it stands."""
        job = self.jobs.store.get(job_id)
        assert job is not None
        return job

    def running(self, job_id: str) -> Job:
        """Wait until a job runs."""
        until(lambda: self.job(job_id).status == "running", "a running job")
        return self.job(job_id)

    def ended(self, job_id: str) -> Job:
        """Wait until a job has ended."""
        until(lambda: self.job(job_id).status.terminal, "the job's end")
        return self.job(job_id)

    def told(self, job_id: str) -> dict[str, int]:
        """What the entry wrote: its pid and which attempt it was."""
        stored = self.jobs.artifacts.read
        found = self.jobs.store.artifacts(job_id)
        assert found is not None
        answer: dict[str, int] = json.loads(stored(job_id, found.token, RESULT_FILE))
        return answer

    def close(self) -> None:
        """End what still runs."""
        for process in self.workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def logs(self) -> str:
        """All that the workers have logged."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A short lease, so that tests see it run out."""
    return settings.model_copy(update={"lease_seconds": 3, "job_time_limit": 60, "kill_grace": 1})


@pytest.fixture
def site(settings: Settings, jobs: Jobs, tmp_path: Path) -> Iterator[Site]:
    site = Site(settings, jobs, tmp_path)
    yield site
    site.close()


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Those of a runner; the process's own handlers come back at the end."""
    signals = signal.SIGALRM, signal.SIGUSR1
    before = [signal.getsignal(each) for each in signals]
    yield Interrupts()
    for each, handler in zip(signals, before, strict=True):
        signal.signal(each, handler)


@pytest.fixture
def bench(settings: Settings, jobs: Jobs) -> Iterator[Bench]:
    """Jobs run in this process, as a worker would, on the module's `settings`."""
    with opened(settings, jobs) as found:
        yield found
