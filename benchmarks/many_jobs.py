"""Many small jobs at once: gathered into shared passes against each by itself.

Two whole stacks, as `mambascope up` starts them, that differ in one setting and take turns.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from benchmarks.row import Row
from benchmarks.shape import Shape, shape, text
from benchmarks.timing import THREADS, Contest, Effort, take_turns
from mambascope.stack import Stack
from schemas.job import Job
from schemas.names import Status
from schemas.settings import Settings

TOKENS = 32
_CLIENTS = 8


def rows(quick: bool) -> Iterator[Row]:
    count, gathered = (4, 4) if quick else (32, Settings().jobs_together)
    model = shape(quick)
    with ExitStack() as stack:
        clients = [stack.enter_context(serving(model, together)) for together in (gathered, 1)]
        found = take_turns(
            {
                "ours": lambda: seconds_for(clients[0], model, count),
                "other": lambda: seconds_for(clients[1], model, count),
            },
            Effort(1, 1.0) if quick else Effort(5, 120.0),
        )
    yield Contest(
        what=f"{count} jobs of {TOKENS} tokens at once, {model.told}, up to {gathered} together",
        against="each by itself (MAMBASCOPE_JOBS_TOGETHER=1)",
        note=f"without figures; ours {count / min(found['ours']):.1f} jobs/s in the best round",
    ).judged(found["ours"], found["other"])


@contextmanager
def serving(model: Shape, together: int) -> Iterator[httpx.Client]:
    """A client of a stack whose worker gathers so many jobs."""
    settings = {
        "MAMBASCOPE_MODEL_DIR": str(model.directory.parent),
        "MAMBASCOPE_THREADS": str(THREADS),
        "MAMBASCOPE_JOBS_TOGETHER": str(together),
    }
    with tempfile.TemporaryDirectory(prefix="mb-") as folder, ExitStack() as stack:
        with mock.patch.dict(os.environ, settings):
            up = stack.enter_context(Stack(Path(folder) / "data", port=0))
        yield stack.enter_context(httpx.Client(base_url=up.url, timeout=60.0, trust_env=False))


def seconds_for(client: httpx.Client, model: Shape, count: int) -> float:
    """From the acceptance of the first job to the end of the last, by their records."""
    with ThreadPoolExecutor(_CLIENTS) as pool:
        accepted = list(pool.map(lambda index: submit(client, model, index), range(count)))
    ended = [until_ended(client, job) for job in accepted]
    last = max(job.finished_at for job in ended if job.finished_at is not None)
    return (last - min(job.created_at for job in ended)).total_seconds()


def submit(client: httpx.Client, model: Shape, index: int) -> Job:
    own = f"{index:03} {text(TOKENS - 4)}"
    body: dict[str, Any] = {"models": [model.name], "texts": [own], "figures": False}
    return Job.model_validate(client.post("/v1/jobs", json=body).raise_for_status().json())


def until_ended(client: httpx.Client, job: Job) -> Job:
    while not job.status.terminal:
        time.sleep(0.02)
        job = Job.model_validate(client.get(job.links.self).raise_for_status().json())
    if job.status is not Status.SUCCEEDED:
        raise RuntimeError(f"a job {job.status}: {job.error}")
    return job
