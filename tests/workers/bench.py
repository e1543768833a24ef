"""A runtime, and jobs run on it as a worker would: real store, real models, real figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from jobs import Attempt, Jobs
from schemas.job import Artifact
from schemas.problem import ProblemError
from schemas.request import JobRequest
from schemas.result import ResultDocument
from schemas.settings import Settings
from workers.kernels import mamba
from workers.run import Runtime, open_runtime, start

TEXTS = ["w1 w2 w3 w2 w1", "w7", "w4 w5 w4 w5 w4 w5 w6 w4 w5"]


@dataclass
class Bench:
    """A runtime, and jobs run on it as a worker would."""

    runtime: Runtime
    jobs: Jobs

    def start(self, **fields: Any) -> Attempt:
        request = JobRequest.model_validate({"models": ["tiny"], "texts": TEXTS} | fields)
        attempt = self.jobs.store.start(self.jobs.store.create(request), "w")
        assert attempt is not None
        return attempt

    def run(self, **fields: Any) -> "Outcome":
        attempt = self.start(**fields)
        self.advance(attempt)
        return self.outcome(attempt)

    def advance(self, attempt: Attempt) -> None:
        (steps,) = start(self.runtime, [attempt])
        for _ in steps:
            pass

    def outcome(self, attempt: Attempt) -> "Outcome":
        found = self.jobs.store.artifacts(attempt.job_id)
        assert found is not None
        return Outcome(self.jobs, attempt, found.artifacts)

    def fail(self, **fields: Any) -> ProblemError:
        attempt = self.start(**fields)
        with pytest.raises(ProblemError) as failed:
            self.advance(attempt)
        assert self.jobs.store.artifacts(attempt.job_id) is None
        return failed.value


@dataclass
class Outcome:
    """A job that succeeded."""

    jobs: Jobs
    attempt: Attempt
    artifacts: list[Artifact]

    @property
    def names(self) -> list[str]:
        return [artifact.name for artifact in self.artifacts]

    def read(self, name: str) -> bytes:
        return self.jobs.artifacts.read(self.attempt.job_id, self.attempt.token, name)

    @property
    def document(self) -> ResultDocument:
        return ResultDocument.model_validate_json(self.read("result.json"))


@contextmanager
def opened(settings: Settings, jobs: Jobs) -> Iterator[Bench]:
    """On one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Loading a model installs the compiled scan for the whole process: other tests find it gone.
    with mamba.installed():
        runtime = open_runtime(settings.model_copy(update={"threads": 1}), jobs)
        yield Bench(runtime, jobs)
        runtime.close()
    torch.set_num_threads(threads)
