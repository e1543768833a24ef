import subprocess
import tempfile
from pathlib import Path

import pytest
from redis import Redis

from mambascope.embedded import embed, running
from tests.workers.conftest import until


@pytest.mark.parametrize("temporary", ["short", "t" * 100])
@pytest.mark.parametrize("data", ["short", "d" * 100])
def test_it_serves_however_long_the_paths_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, temporary: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / temporary))
    (tmp_path / temporary).mkdir(exist_ok=True)
    server = embed(tmp_path / data)
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)
    try:
        until(server.answers, "an answer")
        with Redis.from_url(server.url) as redis:
            assert redis.ping()
        assert running(tmp_path / data) == server
    finally:
        process.terminate()
        process.wait()
        server.clean()
    assert not server.socket.parent.exists() or server.socket.parent == server.folder
