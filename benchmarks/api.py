"""What the service adds: a poll against a bare FastAPI route, and how soon a free worker starts.

It starts the stack as `mambascope up` does (an embedded Valkey that syncs every write to disk, the
API, a worker with the tests' light jobs) and, beside it, bare FastAPI applications whose one route
returns a constant object of the job's size: served with uvicorn's defaults, and with this service's
own settings. Requests come from here over connections that are kept alive. The contenders take
turns in short slices, and a share is the median of the ratios of neighbouring slices, so that a
busy machine slows both sides of each ratio.
"""

import json
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from benchmarks.row import Promise, Row, Spread
from jobs import Jobs, open_jobs
from mambascope.stack import Stack
from schemas.job import Job, Progress
from schemas.names import Stage, Status
from schemas.request import JobRequest
from schemas.settings import Settings
from service.server import Server, server_for

CONNECTIONS = (1, 8, 32)
ROUNDS = 15
ANSWERS = 150
STARTS = 200
# Percent, and seconds.
PROMISED_SHARE = 60.0
PROMISED_START_SECONDS = 0.020
# About as often as a running job tells its progress.
PROGRESS_SECONDS = 0.05
REQUEST = JobRequest(texts=["apple 3 river 7 stone 1 river"])
ANEW = {"texts": REQUEST.texts, "reuse": False}
WORKER = "tests.workers.serve"


# The load


@dataclass(frozen=True)
class Target:
    """One path on one port of this machine."""

    port: int
    path: str

    def request(self) -> bytes:
        return f"GET {self.path} HTTP/1.1\r\nHost: localhost:{self.port}\r\n\r\n".encode()


class _Client:
    """One connection that asks again as soon as it is answered."""

    def __init__(self, target: Target) -> None:
        self._request = target.request()
        self._received = b""
        self.stream = socket.create_connection(("127.0.0.1", target.port))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> None:
        self.stream.sendall(self._request)

    def take(self) -> bool:
        """Take what has come; whether it completes an answer. Raises RuntimeError for a bad one."""
        piece = self.stream.recv(1 << 16)
        self._received += piece
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if not piece or (end and not head.startswith(b"HTTP/1.1 200 ")):
            raise RuntimeError(f"not an answer: {self._received[:200]!r}")
        if not is_whole(self._received):
            return False
        self._received = b""
        return True


def is_whole(received: bytes) -> bool:
    """Whether an answer has come to its end, by its Content-Length."""
    head, end, body = received.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0])


def requests_per_second(target: Target, connections: int, answers: int = ANSWERS) -> float:
    """Answers per second that `connections` clients get which ask without a pause."""
    clients = [_Client(target) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.stream, selectors.EVENT_READ, client)
            client.ask()
        answered, began = 0, time.perf_counter()
        while answered < answers:
            for key, _ in selector.select():
                if key.data.take():
                    answered += 1
                    key.data.ask()
        seconds = time.perf_counter() - began
    for client in clients:
        client.stream.close()
    return answered / seconds


# The contenders


def serve_bare(kind: str, body: Path, port_file: Path) -> None:
    """Serve a constant object until killed."""
    app, constant = FastAPI(), json.loads(body.read_bytes())

    @app.get("/")
    async def get_constant() -> Any:
        return constant

    if kind == "defaults":
        server: uvicorn.Server = Server(uvicorn.Config(app, port=0), port_file)
    else:
        server = server_for(app, Settings(port=0), port_file)
    server.run()


@contextmanager
def bare(kind: str, body: bytes, folder: Path) -> Iterator[int]:
    """A bare FastAPI application in a process of its own; its port."""
    body_file, port_file = folder / "body.json", folder / f"{kind}.port"
    log_file = folder / f"{kind}.log"
    body_file.write_bytes(body)
    command = [sys.executable, "-m", "benchmarks.api", kind, str(body_file), str(port_file)]
    with log_file.open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not port_file.exists():
            if child.poll() is not None:
                raise RuntimeError(log_file.read_text())
            time.sleep(0.05)
        yield int(port_file.read_text())
    finally:
        child.kill()
        child.wait()


@contextmanager
def changing(jobs: Jobs) -> Iterator[str]:
    """The id of a running job that tells its progress all the while."""
    job_id, stop = jobs.store.create(REQUEST), threading.Event()
    attempt = jobs.store.start(job_id, "benchmark")
    if attempt is None:
        raise RuntimeError("a new job could not be started")

    def tell() -> None:
        told = 0
        while not stop.wait(PROGRESS_SECONDS):
            told += 1
            detail = f"layer {told}"
            fraction = 1 - 1 / (told + 1)
            jobs.store.progress(
                attempt, Progress(fraction=fraction, stage=Stage.TRACING, detail=detail)
            )

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield job_id
    finally:
        stop.set()
        thread.join()


# The measurements

OURS = ("an ended job", "a running job")
BARE = ("uvicorn's defaults", "our settings")


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="mb-") as folder, ExitStack() as stack:
        data = Path(folder) / "data"
        up = stack.enter_context(Stack(data, port=0, worker_module=WORKER))
        client = stack.enter_context(httpx.Client(base_url=up.url))
        yield from start_rows(client, STARTS // 10 if quick else STARTS)
        targets = contenders(stack, client, up.port, Path(folder))
        for connections in CONNECTIONS:
            yield from poll_rows(targets, connections, 3 if quick else ROUNDS)


def contenders(
    stack: ExitStack, client: httpx.Client, port: int, folder: Path
) -> dict[str, Target]:
    """The service's two polls and the bare applications' routes, all serving."""
    ended = client.post("/v1/jobs", json=ANEW).json()["links"]["self"]
    while client.get(ended).json()["finished_at"] is None:
        time.sleep(0.05)
    data = folder / "data"
    url = SecretStr(f"unix://{data / 'valkey' / 'valkey.sock'}")
    running = stack.enter_context(changing(open_jobs(Settings(redis_url=url, data_dir=data))))
    body = client.get(ended).content
    plain, ours = (stack.enter_context(bare(kind, body, folder)) for kind in ("defaults", "ours"))
    return {
        "an ended job": Target(port, ended),
        "uvicorn's defaults": Target(plain, "/"),
        "our settings": Target(ours, "/"),
        "a running job": Target(port, f"/v1/jobs/{running}"),
    }


def poll_rows(targets: dict[str, Target], connections: int, rounds: int) -> Iterator[Row]:
    """Each of ours as a share of each bare route's requests per second."""
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, target in targets.items():
            rates[name].append(requests_per_second(target, connections))
    for ours in OURS:
        for other in BARE:
            pairs = zip(rates[ours], rates[other], strict=True)
            yield Row(
                what=f"polls of {ours}, {connections} connection{'s' * (connections > 1)}",
                against=f"a bare FastAPI route, {other}",
                measured=Spread.of([100 * mine / bare for mine, bare in pairs]),
                unit="%",
                promise=Promise(">=", PROMISED_SHARE),
                ours=Spread.of(rates[ours]),
                other=Spread.of(rates[other]),
                timed_in="/s",
                samples={"ours": rates[ours], "other": rates[other]},
            )


def start_rows(client: httpx.Client, count: int) -> Iterator[Row]:
    """From acceptance to start, one job after another on an idle worker."""
    recorded, seen = measure_starts(client, count)
    for how, seconds in (("by the record", recorded), ("as a client sees it", seen)):
        yield Row(
            what=f"accepted to started by a free worker, p50 of {count} jobs, {how}",
            measured=Spread.of(seconds),
            unit="s",
            promise=Promise("<", PROMISED_START_SECONDS),
            samples={"ours": seconds},
        )


def measure_starts(client: httpx.Client, count: int) -> tuple[list[float], list[float]]:
    """Seconds by the record's own times, and as a client that polls sees them."""
    recorded, seen = [], []
    for _ in range(count):
        accepted = client.post("/v1/jobs", json=ANEW)
        began, path = time.perf_counter(), accepted.json()["links"]["self"]
        job = Job.model_validate(accepted.json())
        while job.started_at is None:
            job = Job.model_validate(client.get(path).raise_for_status().json())
        seen.append(time.perf_counter() - began)
        recorded.append((job.started_at - job.created_at).total_seconds())
        while not job.status.terminal:
            job = Job.model_validate(client.get(path).raise_for_status().json())
        if job.status is not Status.SUCCEEDED:
            raise RuntimeError(f"the job {job.status}")
        # Long enough for the worker to wait for work again.
        time.sleep(0.02)
    return recorded, seen


if __name__ == "__main__":
    served, constant, written_port = sys.argv[1:]
    serve_bare(served, Path(constant), Path(written_port))
