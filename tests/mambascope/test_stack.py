"""The stack as processes: started, wounded, stopped."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mambascope.stack import Stack, StackError
from tests.workers.conftest import ROOT, children, gone, until

# Its directory is empty, so the service admits any text and the tests' entry never looks.
REQUEST = {"models": ["hollow"], "texts": ["a"]}


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the processes of every stack here inherit."""
    models = tmp_path_factory.mktemp("models")
    (models / "hollow").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("MAMBASCOPE_MODEL_DIR", str(models))
        patch.setenv("MAMBASCOPE_LEASE_SECONDS", "3")
        yield


@pytest.fixture(scope="module")
def notices() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(
    surroundings: None, tmp_path_factory: pytest.TempPathFactory, notices: list[str]
) -> Iterator[Stack]:
    """A running stack whose workers do as the tests' entry says."""
    # Deep enough that the socket's path would not fit into a socket address.
    folder = tmp_path_factory.mktemp("d" * 60) / ("e" * 60)
    with Stack(
        data_dir=folder, port=0, notice=notices.append, worker_module="tests.workers.serve"
    ) as stack:
        yield stack
        kept = stack.pids
        command = Path(f"/proc/{kept['store']}/cmdline").read_text()
        listening = Path(command.partition("unixsocket:")[2].strip("\0 "))
        assert listening.is_socket()
    assert all(gone(pid) for pid in kept.values())
    assert not listening.parent.exists()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


def submit(client: httpx.Client, **metadata: str) -> str:
    answer = client.post("/v1/jobs", json={**REQUEST, "metadata": metadata, "reuse": False})
    assert answer.status_code == 202
    return answer.headers["Location"]


def ended(client: httpx.Client, location: str) -> dict[str, object]:
    def look() -> dict[str, object] | None:
        try:
            job: dict[str, object] = client.get(location).json()
        except httpx.TransportError:
            return None
        return job if job.get("status") in ("succeeded", "failed") else None

    found = until(look, "the job's end")
    assert found is not None
    return found


def test_job_runs_through_http(client: httpx.Client) -> None:
    assert ended(client, submit(client))["status"] == "succeeded"


def test_store_listens_on_no_network_and_for_this_user_only(stack: Stack) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{stack.pids['store']}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    networked = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert inodes.isdisjoint(line.split()[9] for line in networked.splitlines())


@pytest.mark.parametrize("name", ["store", "api", "worker-1"])
def test_killed_part_is_started_again_and_no_job_is_lost(
    stack: Stack, client: httpx.Client, notices: list[str], name: str
) -> None:
    location = submit(client, do="sleep", until="2")
    until(lambda: client.get(location).json()["status"] == "running", "a running job")
    victim, runner = stack.pids[name], children(stack.pids["worker-1"])[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: stack.pids.get(name) not in (victim, None), "its successor")
    assert f"The {name} ended (SIGKILL); starting it again." in notices
    if name != "worker-1":
        assert children(stack.pids["worker-1"]) == [runner], "the worker was hurt too"
        # The job itself is unharmed; end its long sleep.
        os.kill(runner, signal.SIGKILL)
    job = ended(client, location)
    assert (job["status"], job["attempts"]) == ("succeeded", 2)
    assert gone(runner)


def test_data_directory_serves_one_stack_at_a_time(stack: Stack) -> None:
    with pytest.raises(StackError, match=f"in use by another Mambascope .process {os.getpid()}"):
        Stack(data_dir=stack.data_dir, port=0).start()


def test_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {port} on 127.0.0.1 is in use"):
            Stack(data_dir=tmp_path, port=port).start()


def test_remote_address_must_be_allowed(tmp_path: Path) -> None:
    # The store has to run for it to be known that there is no key.
    stack = Stack(data_dir=tmp_path, host="0.0.0.0", port=0)
    with pytest.raises(StackError, match="--allow-remote"):
        stack.start()
    assert stack.pids == {}


def test_unusable_data_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used"):
        Stack(data_dir=tmp_path / "file", port=0).start()


def test_store_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"redis://:secret@127.0.0.1:{port}/0"
    with pytest.raises(StackError, match="Nothing answers") as caught:
        Stack(data_dir=tmp_path, port=0, redis_url=url).start()
    assert "secret" not in str(caught.value)


def test_worker_that_never_starts_is_said_with_its_log(tmp_path: Path) -> None:
    stack = Stack(data_dir=tmp_path, port=0, worker_module="no_such_module")
    with pytest.raises(
        StackError, match=r"worker-1 does not start \(exit code 1\).*no_such_module"
    ):
        stack.start()
    assert stack.pids == {}


def test_url_is_one_that_this_machine_reaches(tmp_path: Path) -> None:
    assert Stack(tmp_path, host="0.0.0.0", port=1).url == "http://127.0.0.1:1"
    assert Stack(tmp_path, host="::", port=1).url == "http://[::1]:1"
    assert Stack(tmp_path, host="::1", port=1).url == "http://[::1]:1"
    assert Stack(tmp_path, host="localhost", port=1).url == "http://localhost:1"


def test_external_store_is_used(
    valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMBASCOPE_KEY_PREFIX", f"stack-{os.getpid()}")
    with Stack(
        data_dir=tmp_path, port=0, redis_url=valkey, worker_module="tests.workers.serve", workers=2
    ) as stack:
        assert sorted(stack.pids) == ["api", "worker-1", "worker-2"]
        with httpx.Client(base_url=stack.url, timeout=30) as client:
            assert ended(client, submit(client))["status"] == "succeeded"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import mambascope.cli, mambascope.stack, sys;"
        "print([m for m in ('torch', 'numpy', 'rq', 'fastapi') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"
