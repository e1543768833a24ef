"""How long many submissions take: 10,000 jobs from clients that each wait for their 202.

The stack is that of `benchmarks.api`: every job is on disk before it is answered, and a worker with
the tests' light jobs runs them meanwhile. Every job is another, so none shares a result, and all
come in the name of one caller. The clients are a process of their own on the same cores.
"""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.api import REQUEST, WORKER, is_whole
from benchmarks.row import Promise, Row, Spread
from mambascope.stack import Stack

JOBS = 10_000
CONNECTIONS = 16
PROMISED_SECONDS = 60.0


def rows(quick: bool) -> Iterator[Row]:
    count = JOBS // 20 if quick else JOBS
    with tempfile.TemporaryDirectory(prefix="mb-") as folder, ExitStack() as stack:
        up = stack.enter_context(Stack(Path(folder) / "data", port=0, worker_module=WORKER))
        client = stack.enter_context(httpx.Client(base_url=up.url))
        began = time.perf_counter()
        waits = submit_all(up.port, count)
        seconds = time.perf_counter() - began
        asked = time.perf_counter()
        client.get("/v1/jobs?limit=1").raise_for_status()
        listed = time.perf_counter() - asked
    yield Row(
        what=f"{count} jobs submitted over {CONNECTIONS} connections",
        measured=Spread.of([seconds * JOBS / count]),
        unit=f"s per {JOBS}",
        promise=Promise("<", PROMISED_SECONDS),
        samples={"ours": waits},
    )
    yield Row(what="one 202 meanwhile", measured=Spread.of(waits), unit="s")
    yield Row(what=f"the newest of {count} jobs listed", measured=Spread.of([listed]), unit="s")


def submit_all(port: int, count: int) -> list[float]:
    """Submit so many jobs; the seconds that each was waited for."""
    waits: list[float] = []
    threads = [
        threading.Thread(target=submit, args=(port, range(first, count, CONNECTIONS), waits))
        for first in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(waits) != count:
        raise RuntimeError(f"{count - len(waits)} submissions were not accepted")
    return waits


def submit(port: int, seeds: range, waits: list[float]) -> None:
    """Submit a job for each seed over one connection, one after another."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for seed in seeds:
            body = json.dumps({"texts": REQUEST.texts, "seed": seed})
            began = time.perf_counter()
            stream.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
            )
            if not answered(stream).startswith(b"HTTP/1.1 202 "):
                return
            waits.append(time.perf_counter() - began)


def answered(stream: socket.socket) -> bytes:
    """One whole answer."""
    received = b""
    while True:
        piece = stream.recv(1 << 16)
        received += piece
        if not piece or is_whole(received):
            return received
