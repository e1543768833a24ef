"""The process: killed in the middle of a delivery, asked to end, and what it logs."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import Jobs
from schemas.settings import Settings
from tests.service.webhooks.receivers import (
    SECRET,
    ended,
    receiving,
    record,
    silent,
    talking,
    until,
)


@contextmanager
def service(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {
        "MAMBASCOPE_REDIS_URL": settings.redis_url.get_secret_value(),
        "MAMBASCOPE_KEY_PREFIX": settings.key_prefix,
        "MAMBASCOPE_DATA_DIR": str(settings.data_dir),
        "MAMBASCOPE_PORT": "0",
        "MAMBASCOPE_ALLOW_PRIVATE_WEBHOOKS": "true",
        "MAMBASCOPE_WEBHOOK_TIMEOUT": "1",
        "MAMBASCOPE_LOG_LEVEL": "DEBUG",
    }
    with (tmp_path / "log").open("ab") as log:
        child = subprocess.Popen([sys.executable, "-m", "service"], env=environment, stderr=log)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_what_was_under_way_is_delivered_after_a_kill(
    jobs: Jobs, loopback: Settings, tmp_path: Path
) -> None:
    first: list[bytes] = []

    def read_and_hang(connection: socket.socket) -> None:
        first.append(connection.recv(65536))
        silent(connection)

    with talking(read_and_hang) as hanging, service(loopback, tmp_path) as killed:
        job_id = ended(jobs, hanging.url)
        until(lambda: bool(first), "a delivery under way")
        killed.kill()
        killed.wait()
    assert record(jobs, loopback, job_id)["deliveries"] == []
    with receiving(port=hanging.port) as inbox, service(loopback, tmp_path) as second:
        [received] = inbox.wait_for(1)
        until(lambda: record(jobs, loopback, job_id)["due"] is None, "a record of the delivery")
        second.terminate()
        assert second.wait(10) is not None
    [event] = inbox.events()
    assert event["data"]["id"] == job_id
    assert f"webhook-id: {received.headers['webhook-id']}".encode() in first[0]
    [delivery] = record(jobs, loopback, job_id)["deliveries"]
    assert (delivery["attempt"], delivery["status"]) == (1, 204)


def test_a_service_that_is_asked_to_end_does_not_wait_for_receivers(
    jobs: Jobs, loopback: Settings, tmp_path: Path
) -> None:
    with talking(silent) as hanging, service(loopback, tmp_path) as stopped:
        job_id = ended(jobs, hanging.url)
        until(lambda: bool(hanging.received), "a delivery under way")
        stopped.terminate()
        stopped.wait(10)
    seconds, _ = jobs.redis.time()
    kept = record(jobs, loopback, job_id)
    assert kept["deliveries"] == [] or kept["deliveries"][0]["status"] is None
    assert kept["due"] <= (seconds + 10) * 1000
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_attempt_is_one_line_without_secret_path_or_query(
    jobs: Jobs, loopback: Settings, tmp_path: Path
) -> None:
    with receiving(lambda nth: (410, {})) as inbox, service(loopback, tmp_path):
        job_id = ended(jobs, inbox.url + "/private?token=hidden")
        until(lambda: record(jobs, loopback, job_id)["due"] is None, "a record of the delivery")
        until(lambda: '"webhook"' in (tmp_path / "log").read_text(), "a line")
    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    [line] = [line for line in lines if line.get("event") == "webhook"]
    assert (line["job"], line["status"], line["attempt"]) == (job_id, 410, 1)
    assert line["host"] == f"127.0.0.1:{inbox.port}"
    assert line["ms"] > 0
    for hidden in ("hidden", "private", SECRET.removeprefix("whsec_").rstrip("=")):
        assert hidden not in log
