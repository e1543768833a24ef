"""Stacks of real processes that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from mambascope.stack import Stack
from tests.workers.conftest import ROOT


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The real thing, with real models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with Stack(data_dir=tmp_path_factory.mktemp("data"), port=0) as stack:
            yield stack


@pytest.fixture(scope="module")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service whose jobs do as their metadata says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("data")
        with Stack(data_dir=folder, port=0, worker_module="tests.workers.serve") as stack:
            yield stack


@pytest.fixture(autouse=True)
def no_service_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of whoever runs the tests says."""
    monkeypatch.delenv("MAMBASCOPE_URL", raising=False)
    monkeypatch.delenv("MAMBASCOPE_KEY", raising=False)
