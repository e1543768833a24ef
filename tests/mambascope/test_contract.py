"""The OpenAPI document against the running service, every operation, with every check."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mambascope.stack import Stack

CONFIG = Path(__file__).with_name("schemathesis.toml")
TOOL = Path(sys.executable).with_name("schemathesis")


@pytest.fixture
def emptied(stack: Stack) -> Iterator[Stack]:
    """The stack; what a test leaves in its queue would keep the others' jobs waiting."""
    yield stack
    with httpx.Client(base_url=stack.url) as client:
        while jobs := client.get("/v1/jobs", params={"limit": 100}).json()["jobs"]:
            for job in jobs:
                client.delete(job["links"]["self"])


def test_nothing_is_found(emptied: Stack, tmp_path: Path) -> None:
    """Examples, edge cases, valid and invalid input at random, and walks from answer to request."""
    command = [TOOL, "--config-file", CONFIG, "run", f"{emptied.url}/openapi.json"]
    options = ["--checks", "all", "--max-examples", "20", "--seed", "1", "--continue-on-failure"]
    found = subprocess.run(
        [*command, *options, "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
    assert "18 selected / 18 total" in found.stdout
