"""The memory that a job is said to need against the most that it takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.jobs_here import valkey
from benchmarks.memory import GB
from benchmarks.row import Promise, Row, Spread
from benchmarks.shape import Shape, shape, text
from benchmarks.timing import THREADS


def rows(quick: bool) -> Iterator[Row]:
    model = shape(quick)
    lengths = [256] if quick else [256, 1024, 2048]
    requests = [
        {"models": [model.name], "texts": [text(length)], "figures": False} for length in lengths
    ]
    for length, found in zip(lengths, measured(model, requests), strict=True):
        told, taken = (Spread.of([found[name] / GB]) for name in ("told", "taken"))
        yield Row(
            what=f"memory estimate of the default job, {model.told}, L={length}",
            against="the measured peak, the model's weights among it",
            measured=Spread.of([told.median / taken.median]),
            # An estimate below what is taken would let a job in that does not fit.
            promise=Promise(">=", 1.0),
            ours=told,
            other=taken,
            timed_in="GB",
            samples={"ours": [found["told"]], "other": [found["taken"]]},
        )


def measured(model: Shape, requests: list[dict[str, Any]]) -> list[dict[str, int]]:
    """Bytes told and taken by each job, in a process of its own."""
    with valkey() as (url, home):
        settings = {
            "MAMBASCOPE_REDIS_URL": url,
            "MAMBASCOPE_DATA_DIR": str(home / "data"),
            "MAMBASCOPE_MODEL_DIR": str(model.directory.parent),
            "MAMBASCOPE_DEVICE": "cpu",
            "MAMBASCOPE_THREADS": str(THREADS),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "tests.workers.measuring"],
            input="".join(json.dumps(request) + "\n" for request in requests),
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode != 0:
        raise RuntimeError(ended.stderr[-2000:])
    return [json.loads(line) for line in ended.stdout.splitlines()]
