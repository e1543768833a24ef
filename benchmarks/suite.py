"""All benchmarks, each in a process of its own, and what they leave: a table, JSON, Markdown.

A benchmark is a module of this package with `rows(quick)`, which yields its rows one by one.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
    "weightings",
    "query_row",
    "model_pass",
    "default_job",
    "many_jobs",
    "job_memory",
    "figures",
    "denormals",
    "api",
    "known_answer",
    "curves",
)


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
    """Those that run when none is named: a quick run has no curves, which promise nothing."""
    return tuple(name for name in NAMES if not (quick and name == "curves"))


def begin(quick: bool) -> Report:
    return Report(quick, machine.describe(), datetime.now(UTC).isoformat(), machine.load())


def run(report: Report, names: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Run the named benchmarks in turn, into `report`; yields each one's rows as it ends."""
    for name in names:
        started = datetime.now(UTC)
        rows, why = _in_process(name, report.quick)
        report.rows[name] = rows
        report.seconds[name] = round((datetime.now(UTC) - started).total_seconds(), 1)
        if why:
            report.failed[name] = why
        report.load_at_end = machine.load()
        yield name, rows


def _in_process(name: str, quick: bool) -> tuple[list[Row], str]:
    """The rows that a benchmark has found, and why it ended early if it did."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        command = [sys.executable, "-m", "benchmarks.suite", name, str(out), *["--quick"] * quick]
        ended = subprocess.run(command, check=False, env=machine.environment())
        lines = out.read_text().splitlines() if out.exists() else []
    rows = [Row.from_json(json.loads(line)) for line in lines]
    return rows, "" if ended.returncode == 0 else f"ended with {ended.returncode}"


def main(name: str, out: str, *options: str) -> None:
    """Write the rows of one benchmark to a file, one JSON object a line."""
    import torch

    torch.set_num_threads(THREADS)
    # For every contender: where states decay, denormals cost those most that decay them in place.
    torch.set_flush_denormal(True)
    benchmark = importlib.import_module(f"benchmarks.{name}")
    with Path(out).open("w", buffering=1) as lines:
        for row in benchmark.rows("--quick" in options):
            lines.write(json.dumps(row.to_json()) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
