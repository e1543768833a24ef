"""All benchmarks, each in a process of its own, and what they leave: a table, JSON, Markdown.

A benchmark is a module of this package with `rows(quick)`, which yields its rows one by one.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.row import Row
from benchmarks.timing import THREADS

RESULTS = Path(__file__).parent / "results"
NAMES = (
    "matrix",
    "together",
    "ssd",
    "softmax",
    "universality",
    "query_row",
    "model_pass",
    "neurons",
    "default_job",
    "knowledge_neurons",
    "many_jobs",
    "perturbation",
    "job_memory",
    "figures",
    "denormals",
    "api",
    "submissions",
    "watchers",
    "known_answer",
    "progress",
    "curves",
)
_UNPROMISED = {
    "ssd",
    "softmax",
    "universality",
    "many_jobs",
    "perturbation",
    "denormals",
    "progress",
    "curves",
}


@dataclass
class Report:
    """What a run found."""

    quick: bool
    machine: dict[str, Any]
    began: str
    load_at_start: tuple[float, float, float]
    load_at_end: tuple[float, float, float] | None = None
    rows: dict[str, list[Row]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def listed(self) -> list[Row]:
        """Every row that is no point of a curve."""
        return [row for rows in self.rows.values() for row in rows if not row.curve]

    def points(self) -> list[Row]:
        return [row for rows in self.rows.values() for row in rows if row.curve]

    def to_json(self) -> dict[str, Any]:
        return {
            "quick": self.quick,
            "threads": THREADS,
            "began": self.began,
            "machine": self.machine,
            "load_at_start": self.load_at_start,
            "load_at_end": self.load_at_end,
            "seconds": self.seconds,
            "failed": self.failed,
            "benchmarks": {
                name: [row.to_json() for row in rows] for name, rows in self.rows.items()
            },
        }


def names(quick: bool) -> tuple[str, ...]:
    """Those that run when none is named: a quick run leaves out what promises nothing."""
    return tuple(name for name in NAMES if not (quick and name in _UNPROMISED))


def begin(quick: bool) -> Report:
    return Report(quick, machine.describe(), datetime.now(UTC).isoformat(), machine.load())


def run(report: Report, names: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Run the named benchmarks in turn, into `report`; yields each one's rows as it ends."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.suite", folder, *names]
        command += ["--quick"] * report.quick
        with subprocess.Popen(
            command, env=machine.environment(), stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for name in names:
                ended: Any = json.loads(child.stdout.readline() or "null")
                out = Path(folder) / name
                lines = out.read_text().splitlines() if out.exists() else []
                report.rows[name] = [Row.from_json(json.loads(line)) for line in lines]
                report.load_at_end = machine.load()
                if ended is None:
                    report.failed[name] = f"ended with {child.wait()}"
                else:
                    report.seconds[name] = ended["seconds"]
                    if ended["status"]:
                        report.failed[name] = f"ended with {ended['status']}"
                yield name, report.rows[name]


def main(folder: str, *arguments: str) -> None:
    """Run benchmarks, each in a fork of this process, and tell of each as it ends.

    Importing what they need takes longer than some of them, so it is done once. Of its threads only
    OpenBLAS has some by then, and it starts them anew in a fork.
    """
    names = [argument for argument in arguments if not argument.startswith("-")]
    for name in names:
        with suppress(ImportError):  # which that benchmark is then told
            importlib.import_module(f"benchmarks.{name}")
    for name in names:
        started = time.perf_counter()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(_run(name, Path(folder) / name, "--quick" in arguments))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = round(time.perf_counter() - started, 1)
        print(json.dumps({"status": status, "seconds": seconds}), flush=True)


def _run(name: str, out: Path, quick: bool) -> int:
    """Write the rows of one benchmark to a file, one JSON object a line; the exit status."""
    import torch

    torch.set_num_threads(THREADS)
    # For every contender: where states decay, denormals cost those most that decay them in place.
    torch.set_flush_denormal(True)
    # What a benchmark prints is not among what is told of its end.
    os.dup2(2, 1)
    try:
        with out.open("w", buffering=1) as lines:
            for row in importlib.import_module(f"benchmarks.{name}").rows(quick):
                lines.write(json.dumps(row.to_json()) + "\n")
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
