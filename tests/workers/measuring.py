"""Runs jobs in processes of their own and says what each took; `python -m tests.workers.measuring`.

Reads requests from stdin, one a line, and writes for each the bytes that its process took at its
worst moment beyond what it held before, and those that the estimate names. Settings come from the
environment.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from catalogue.cached import description, tokeniser
from catalogue.locate import locate
from catalogue.memory import needs, result_bytes
from catalogue.workload import workload
from jobs import Jobs, open_jobs
from schemas.names import Method
from schemas.request import JobRequest
from schemas.settings import Settings
from workers.run import Runtime, open_runtime, start

# Two layers, long enough for threads and every kernel to have had their first run.
_FIRST = {
    "texts": ["apple 3 " * 200],
    "figures": False,
    "attention": {"methods": list(Method)},
}
# Loads the model, and little else.
_LOAD = {"texts": ["a"], "layers": [0], "figures": False, "attention": {"rows": "target"}}


def resident(name: str) -> int:
    """`VmRSS`, what the process holds, or `VmHWM`, the most it has held, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def complete(runtime: Runtime, jobs: Jobs, request: JobRequest) -> None:
    attempt = jobs.store.start(jobs.store.create(request), "w")
    assert attempt is not None
    for job in start(runtime, [attempt]):
        for _ in job:
            pass


def measured(request: JobRequest) -> dict[str, int]:
    """The most that a worker holds for the job when it may hold the estimate, and the estimate."""
    settings = Settings()
    torch.set_num_threads(settings.threads or 1)
    told = estimate(request, settings)
    jobs = open_jobs(settings)
    runtime = open_runtime(settings.model_copy(update={"job_memory_bytes": told}), jobs)
    complete(runtime, jobs, JobRequest.model_validate(_FIRST))
    before = resident("VmRSS")
    # The peak of loading would count the pages of the weights' file, which the system takes back
    # when it needs them.
    complete(runtime, jobs, JobRequest.model_validate({**_LOAD, "models": request.models}))
    Path("/proc/self/clear_refs").write_text("5")
    complete(runtime, jobs, request)
    taken = resident("VmHWM") - before
    runtime.close()
    return {"taken": taken, "told": told}


def estimate(request: JobRequest, settings: Settings) -> int:
    location = locate(request.models[0], settings)
    assert location.path is not None
    tokens = tokeniser(location.path)
    lengths = [tokens.count(text) for text in request.texts]
    work = workload(request, description(location, settings), lengths, settings)
    return needs(work, result_bytes(work)).total


def apart(request: JobRequest) -> None:
    """Measure in a fork, so that nothing that an earlier job left is counted or reused."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0
        return
    print(json.dumps(measured(request)), flush=True)
    os._exit(0)


def main() -> None:
    # Threads do not survive a fork: they start in the child.
    torch.set_num_threads(1)
    for line in sys.stdin:
        fields: dict[str, Any] = json.loads(line)
        apart(JobRequest.model_validate(fields))


if __name__ == "__main__":
    main()
