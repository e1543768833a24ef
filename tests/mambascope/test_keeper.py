"""Children that cannot be started."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mambascope.keeper import Child, Keeper
from tests.workers.conftest import gone, until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def keeper(notices: list[str]) -> Iterator[Keeper]:
    keeper = Keeper(notices.append)
    keeper.start()
    yield keeper
    keeper.stop()


def child(name: str, log: Path) -> Child:
    return Child(name, SLEEP, {}, log, patience=5.0)


def test_a_child_that_cannot_start_is_tried_again_and_harms_no_other(
    keeper: Keeper, notices: list[str], tmp_path: Path
) -> None:
    steady, barred = child("steady", tmp_path / "log"), child("barred", tmp_path / "logs" / "log")
    keeper.add(steady, barred)
    until(lambda: barred.deaths >= 2, "two vain starts")
    assert any("The barred cannot be started (No such file" in line for line in notices)
    assert steady.process is not None
    assert not gone(steady.process.pid)
    (tmp_path / "logs").mkdir()
    until(lambda: barred.process is not None, "a start")
