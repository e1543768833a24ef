"""The examples, and the snippets of the guides, do what they show, with a real service."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
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


@pytest.mark.parametrize("guide", ["README.md", "docs/api.md"])
def test_snippet_prints_what_stands_beside_it(
    environment: dict[str, str], tmp_path: Path, guide: str
) -> None:
    [snippet] = re.findall(r"^```python\n(.*?)^```", (ROOT / guide).read_text(), re.S | re.M)
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(r"print\(.*\)  # ([\d(].*)$", snippet, re.M)
    assert shown
    assert all(value in done.stdout for value in shown), done.stdout
    assert (tmp_path / "output" / "result.json").is_file()


def test_loop_of_the_guide_follows_a_job_to_its_end(stack: Stack) -> None:
    guide = (ROOT / "docs/following.md").read_text()
    [loop] = re.findall(r"^```python\n(.*?)^```", guide, re.S | re.M)
    seen: list[dict[str, Any]] = []
    with httpx.Client(base_url=stack.url) as api:
        posted = api.post("/v1/jobs", json={"texts": ["apple 3 river"], "reuse": False})
        exec(loop, {"api": api, "path": posted.json()["links"]["self"], "show": seen.append})
    assert seen[-1]["status"] == "succeeded"
