"""The process: `python -m service`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from jobs import Jobs
from jobs.access.access_keys import AccessKeys
from schemas.settings import Settings
from service import server
from service.app import create_app
from service.server import RemoteNotAllowed, server_for
from tests.service.conftest import SUBMIT, serving, started
from tests.service.keys import make_key


@dataclass
class Process:
    port: int
    process: subprocess.Popen[str]

    def stop(self) -> list[dict[str, object]]:
        """Ask it to end, and give its log lines."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=20)
        return [json.loads(line) for line in errors.splitlines()]


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    port_file = tmp_path / "port"
    environment = os.environ | {
        "MAMBASCOPE_REDIS_URL": settings.redis_url.get_secret_value(),
        "MAMBASCOPE_KEY_PREFIX": settings.key_prefix,
        "MAMBASCOPE_DATA_DIR": str(settings.data_dir),
        "MAMBASCOPE_MODEL_DIR": str(settings.model_dir),
        "MAMBASCOPE_PORT": "0",
        "MAMBASCOPE_PORT_FILE": str(port_file),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "service"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not port_file.exists():
            assert child.poll() is None, "the process ended"
            time.sleep(0.02)
        yield Process(int(port_file.read_text()), child)
    finally:
        child.kill()
        child.communicate()


def test_it_logs_json_lines_without_texts_and_ends_when_asked(process: Process) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{process.port}") as client:
        sent = {**SUBMIT, "texts": ["river stone", "apple"]}
        response = client.post("/v1/jobs?secret=1", json=sent, headers={"X-Request-Id": "one"})
        assert response.status_code == 202
        assert client.post("/v1/jobs", json={"texts": ["river"], "x": "stone"}).status_code == 422
    lines = process.stop()
    [line] = [line for line in lines if line.get("request_id") == "one"]
    assert (line["event"], line["method"], line["path"]) == ("request", "POST", "/v1/jobs")
    assert line["status"] == 202
    assert line["bytes"] == len(response.content)
    everything = json.dumps(lines)
    assert not any(word in everything for word in ("river", "stone", "secret"))


def test_what_is_no_http_is_answered_with_a_problem_too(process: Process) -> None:
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_a_head_that_does_not_come_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIME_LIMIT", 0.5)
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(create_app(settings), settings) as client:
        for begun in (b"", whole[:20], whole + whole[:20]):
            with socket.create_connection(("127.0.0.1", client.base_url.port), 10) as connection:
                began = time.monotonic()
                connection.sendall(begun)
                answer = b"".join(iter(lambda read=connection.recv: read(4096), b""))
            assert time.monotonic() - began > 0.4
            assert answer.count(b"HTTP/1.1 200") == begun.count(whole)


def test_whoever_asks_in_time_is_not_cut_off(
    settings: Settings, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIME_LIMIT", 0.5)
    path = f"/v1/jobs/{started(jobs).job_id}"
    with serving(create_app(settings), settings) as client:
        assert client.get(path, params={"wait": "1.5"}).status_code == 200


def test_a_client_that_leaves_in_mid_body_is_no_error(process: Process) -> None:
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 100\r\n\r\n{")
    assert httpx.get(f"http://127.0.0.1:{process.port}/healthz").status_code == 200
    lines = process.stop()
    assert [line for line in lines if line["level"] not in ("info", "debug")] == []


def test_it_waits_for_nobody_who_watches_or_waits(process: Process, jobs: Jobs) -> None:
    """Less than it has for responses under way, after which it would say that it gave them up."""
    path = f"/v1/jobs/{started(jobs).job_id}"
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=60) as client,
        ThreadPoolExecutor() as pool,
        client.stream("GET", f"{path}/events") as stream,
    ):
        lines = stream.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        poll = pool.submit(client.get, path, params={"wait": 60})
        time.sleep(0.5)
        told = process.stop()
        assert not any(line.startswith("data: ") for line in lines)
        assert poll.result().json()["status"] == "running"
    assert process.process.returncode in (0, -signal.SIGTERM)
    assert [line for line in told if line["level"] not in ("info", "debug")] == []


def test_addresses_that_others_reach_must_be_allowed_or_ask_for_keys(
    settings: Settings, jobs: Jobs
) -> None:
    app = create_app(settings)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        remote = settings.model_copy(update={"host": host})
        with pytest.raises(RemoteNotAllowed, match="MAMBASCOPE_ALLOW_REMOTE"):
            server_for(app, remote)
        server_for(app, remote.model_copy(update={"allow_remote": True}))
    for host in ("127.0.0.1", "::1", "localhost"):
        server_for(app, settings.model_copy(update={"host": host}))
    key = make_key(jobs, settings)
    AccessKeys(jobs.redis, settings).revoke(key.about.id)
    server_for(app, settings.model_copy(update={"host": "0.0.0.0"}))


def test_the_service_and_the_catalogue_never_load_a_tensor_library() -> None:
    code = (
        "import sys, catalogue.admission, service.app, service.__main__\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'numba', 'workers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
