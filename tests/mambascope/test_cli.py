"""The command line: real processes, real signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from jobs import open_jobs
from schemas.settings import Settings
from schemas.version import package_version
from tests.workers.conftest import ROOT, environment, gone, until


def mambascope(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mambascope", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def family(pid: int) -> set[int]:
    """A process and all that descends from it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@dataclass
class Installation:
    """A data directory and the `up` processes a test starts on it."""

    data: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def up(self, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        """Start it; the process and the line it says when it is ready."""
        command = [sys.executable, "-m", "tests.mambascope.up", "up", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--data-dir", str(self.data), *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "MAMBASCOPE_MODEL_DIR": str(self.data.parent),
                "MAMBASCOPE_LEASE_SECONDS": "3",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "hollow").mkdir()
    installation = Installation(tmp_path / "data")
    yield installation
    for process in installation.started:
        process.kill()
        process.communicate()


def url_of(line: str) -> str:
    """The address in the line that says it is ready."""
    assert line.startswith("Mambascope is ready at http://127.0.0.1:")
    assert line.endswith(" (API docs at /docs). Ctrl-C stops it.")
    return line.split()[4]


def submit(url: str, **metadata: str) -> str:
    request = {"models": ["hollow"], "texts": ["a"], "metadata": metadata, "reuse": False}
    answer = httpx.post(f"{url}/v1/jobs", json=request)
    assert answer.status_code == 202
    return answer.headers["Location"]


def status(url: str, location: str) -> str:
    answer: str = httpx.get(url + location).json()["status"]
    return answer


def test_kill_9_leaves_no_process_and_loses_no_job(installation: Installation) -> None:
    up, line = installation.up()
    url = url_of(line)
    done = submit(url)
    until(lambda: status(url, done) == "succeeded", "the first job")
    broken = submit(url, do="sleep", until="2")
    waiting = submit(url)
    until(lambda: status(url, broken) == "running", "the second job running")
    members = family(up.pid)
    assert len(members) == 5, "up, store, API, worker and runner"
    up.kill()
    up.wait()
    until(lambda: all(gone(pid) for pid in members), "the end of every process")

    up, line = installation.up()
    url = url_of(line)
    assert status(url, done) == "succeeded"
    assert httpx.get(f"{url}{done}/artifacts/result.json").status_code == 200
    until(lambda: status(url, broken) == "succeeded", "the job that was running")
    until(lambda: status(url, waiting) == "succeeded", "the job that was queued")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_in_the_middle_of_a_job_is_clean(
    installation: Installation, number: signal.Signals
) -> None:
    up, line = installation.up()
    url = url_of(line)
    location = submit(url, do="sleep")
    until(lambda: status(url, location) == "running", "a running job")
    members = family(up.pid)
    reached = [pid for pid in members if os.getpgid(pid) == up.pid]
    assert reached == [up.pid], "a Ctrl-C would reach the parts before they are stopped in order"
    # As a terminal does it: to the whole group.
    os.killpg(up.pid, number)
    said, _ = up.communicate(timeout=60)
    assert (up.returncode, said) == (0, "Stopped.\n")
    assert all(gone(pid) for pid in members)


def test_stop_while_starting_is_clean(installation: Installation) -> None:
    command = [sys.executable, "-m", "mambascope", "up", "--port", "0"]
    up = subprocess.Popen(
        [*command, "--data-dir", str(installation.data)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    installation.started.append(up)
    until(lambda: (installation.data / "logs" / "store.log").exists(), "the store")
    members = family(up.pid)
    up.send_signal(signal.SIGINT)
    said, _ = up.communicate(timeout=60)
    assert (up.returncode, said) == (0, "Stopped.\n")
    assert all(gone(pid) for pid in members)


def test_refusal_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    for command in ("up", "api"):
        said = mambascope(command, "--host", "0.0.0.0", "--data-dir", str(tmp_path))
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr.startswith("mambascope: 0.0.0.0 can be reached from other machines")
        assert said.stderr.count("\n") == 1


def test_wrong_setting_names_its_variable(tmp_path: Path) -> None:
    said = mambascope("up", "--data-dir", str(tmp_path), MAMBASCOPE_MAX_TEXTS="many")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("mambascope: MAMBASCOPE_MAX_TEXTS: ")
    models = '{"gpt2": {"dtype": "int8"}}'
    said = mambascope("up", "--data-dir", str(tmp_path), MAMBASCOPE_MODELS=models)
    assert said.stderr.startswith("mambascope: MAMBASCOPE_MODELS (`dtype`): ")
    assert said.stderr.count("\n") == 1


def test_version() -> None:
    said = mambascope("--version")
    assert (said.returncode, said.stdout) == (0, f"mambascope {package_version()}\n")


def test_parts_run_against_the_given_store(settings: Settings, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    surroundings = {**environment(settings), "MAMBASCOPE_PORT_FILE": str(port_file)}
    surroundings.pop("MAMBASCOPE_DATA_DIR")
    part = [sys.executable, "-m", "mambascope"]
    folder = ["--data-dir", str(settings.data_dir)]
    api = subprocess.Popen([*part, "api", "--port", "0", *folder], cwd=ROOT, env=surroundings)
    worker = subprocess.Popen([*part, "worker", *folder], cwd=ROOT, env=surroundings)
    jobs = open_jobs(settings)
    try:
        until(port_file.exists, "the API")
        url = f"http://127.0.0.1:{port_file.read_text()}"
        assert httpx.get(f"{url}/healthz").status_code == 200
        until(lambda: [w.pid for w in jobs.presence.alive()] == [worker.pid], "the worker")
    finally:
        for process in (api, worker):
            process.terminate()
            process.wait(30)
        jobs.close()
    assert worker.returncode == 0
