"""Running benchmarks as processes: what fails is told, and what was found before it is kept."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__, machine, suite
from benchmarks.memory import peak_added
from benchmarks.row import Row, Spread


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Room for benchmarks that only this test has."""
    folder = tmp_path / "more" / "benchmarks"
    folder.mkdir(parents=True)
    site = tmp_path / "sitecustomize.py"
    site.write_text(f"import benchmarks; benchmarks.__path__.append({str(folder)!r})\n")
    root = Path(suite.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    return folder


def test_rows_found_before_a_failure_are_kept(package: Path) -> None:
    (package / "breaking.py").write_text(
        "from benchmarks.row import Row\n"
        "def rows(quick):\n"
        "    yield Row(f'quick: {quick}')\n"
        "    raise RuntimeError('it breaks')\n"
    )
    report = suite.begin(quick=True)
    [(name, rows)] = suite.run(report, ["breaking"])
    assert (name, rows) == ("breaking", [Row("quick: True")])
    assert report.failed == {"breaking": "ended with 1"}


def test_the_exit_status_counts_failures_and_not_missed_promises(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "missing.py").write_text(
        "from benchmarks.row import Promise, Row, Spread\n"
        "def rows(quick):\n"
        "    yield Row('it', measured=Spread.of([3.0]), promise=Promise('<=', 2.0))\n"
    )
    (package / "breaking.py").write_text("def rows(quick):\n    raise RuntimeError\n")
    monkeypatch.setattr(suite, "NAMES", ("missing", "breaking"))
    out = tmp_path / "bench.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", str(out), "--only", "missing"])
    assert __main__.main() == 0
    stored = json.loads(out.read_text())
    assert stored["benchmarks"]["missing"][0]["verdict"] == "missed"
    assert stored["quick"] is False
    assert "| it | ≤ 2x | 3x |" in out.with_suffix(".md").read_text()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", str(out), "--only", "breaking"])
    assert __main__.main() == 1
    assert json.loads(out.read_text())["failed"] == {"breaking": "ended with 1"}


def test_what_slows_numpy_down_is_told_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert "OPENBLAS_CORETYPE" not in machine.environment()
    described = machine.describe()
    assert described["environment"]["OPENBLAS_CORETYPE"] == "Prescott"
    assert "OPENBLAS_CORETYPE" in described["removed_for_measuring"]
    assert described["versions"]["torch"]
    assert described["cores"] >= 1
    assert described["memory_bytes"] > 1 << 28


def allocate(megabytes: int) -> object:
    import numpy as np

    return lambda: np.ones(megabytes << 20, np.uint8).sum()


def test_memory_added_is_the_peak_of_the_call_and_not_what_was_there() -> None:
    added = peak_added("tests.benchmarks.test_suite:allocate", 200)
    # The kernel counts a process's pages in batches.
    assert 199 * 2**20 <= added < 230 * 2**20


def test_every_benchmark_has_rows() -> None:
    import importlib

    for name in suite.NAMES:
        assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_a_spread_names_median_and_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
