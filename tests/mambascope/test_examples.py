"""The examples do what they show: run against a real service, as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from mambascope.stack import Stack
from tests.workers.conftest import ROOT

EXAMPLES = ROOT / "examples"
TOUR = EXAMPLES / "tour.ipynb"


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, "MAMBASCOPE_URL": stack.url, "PYTHONPATH": str(ROOT)}


def said(cell: Any) -> list[str]:
    """What a cell has said in plain text, ids left out."""
    outputs = cell.get("outputs", ())
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return [re.sub(r"\b0[0-9A-Z]{25}\b", "ID", "".join(text)) for text in texts]


def test_tour_says_what_is_committed(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAMBASCOPE_URL", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    committed = nbformat.read(TOUR, as_version=4)
    tour = nbformat.read(TOUR, as_version=4)
    NotebookClient(tour, timeout=60).execute()
    for ours, theirs in zip(tour.cells, committed.cells, strict=True):
        assert said(ours) == said(theirs), f"run examples/tour.ipynb anew: {ours.source}"
    pictures = [o for cell in tour.cells for o in cell.get("outputs", ()) if "data" in o]
    assert any("image/png" in output.data for output in pictures)
    assert TOUR.stat().st_size < 300_000, "a notebook that a code host shows"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("quickstart", ["'7' with p = 1.000, read from", "       7    43.57 " + 44 * "#"]),
        ("async_many", ["river: 7 (told 7)", "  layers[0]: `pocket/recall-mamba` has no layer 99"]),
    ],
)
def test_script_runs(
    environment: dict[str, str], tmp_path: Path, name: str, lines: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line in done.stdout for line in lines), done.stdout
    assert (tmp_path / "quickstart-output").exists() == (name == "quickstart")
