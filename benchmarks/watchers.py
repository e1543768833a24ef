"""Two thousand watchers of event streams on one API process: how late they hear, what they cost.

The stack is started as `mambascope up` does. A process of its own writes progress as workers do;
the watchers are sockets of this process, which reads the clock when an event's bytes have come. All
of them share the machine's cores with the service, so a delay holds what the load itself takes.
"""

import asyncio
import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from pydantic import SecretStr

from benchmarks.api import PROGRESS_SECONDS, REQUEST, WORKER
from benchmarks.row import Promise, Row, Spread
from jobs import Jobs, open_jobs
from mambascope.stack import Stack
from schemas.job import Progress
from schemas.names import Stage
from schemas.settings import Settings

WATCHERS = 2000
ROUNDS, ROUND_SECONDS = 5, 6.0
# Each of many jobs tells its progress so often, if the store takes it that fast from one writer.
SECONDS_BETWEEN = 5.0
# Nobody renews the leases.
_LEASE = {"MAMBASCOPE_LEASE_SECONDS": "3600"}
PROMISED_DELAY = 1.0
_POLLS_EACH = 0.02
_SETTLING = 1.0
_TOLD = re.compile(rb'"detail":"(\d+\.\d+)"')


@dataclass
class Heard:
    """What has come, to all watchers and all polls: delays and times of answer, in seconds, and how
    long it took until all watched."""

    delays: list[float] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    opening: float = 0.0


class _Watcher(asyncio.Protocol):
    """One open stream."""

    def __init__(self, port: int, path: str, heard: Heard, begun: asyncio.Semaphore) -> None:
        self._request = f"GET {path}/events HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        self._heard, self._begun, self._is_begun = heard, begun, False
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self._is_begun:
            if b"data: " in data:
                self._is_begun = True
                self._begun.release()
            return
        self._heard.delays += [now - float(told) for told in _TOLD.findall(data)]


async def watched(
    port: int, paths: Sequence[str], seconds: float, on_begun: "asyncio.Future[None]"
) -> Heard:
    """Watch each path once, poll the first of them beside, and give what has come in so long."""
    loop, heard, begun = asyncio.get_running_loop(), Heard(), asyncio.Semaphore(0)
    watchers, began = [], loop.time()
    for path in paths:
        _, watcher = await loop.create_connection(
            lambda path=path: _Watcher(port, path, heard, begun), "127.0.0.1", port
        )
        watchers.append(watcher)
    for _ in watchers:
        await begun.acquire()
    heard.opening = loop.time() - began
    on_begun.set_result(None)
    # Until the rush of so many at once is over.
    await asyncio.sleep(_SETTLING)
    heard.delays.clear()
    await _poll(port, paths[0], loop.time() + seconds, heard)
    for watcher in watchers:
        assert watcher.transport is not None
        watcher.transport.abort()  # type: ignore[attr-defined]
    return heard


async def _poll(port: int, path: str, end: float, heard: Heard) -> None:
    """Ask how a job stands, again and again over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    while time.monotonic() < end:
        began = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
        heard.polls.append(time.monotonic() - began)
        await asyncio.sleep(_POLLS_EACH)
    writer.close()


# The writer


def write(url: str, data: str, interval: str, *ids: str) -> None:
    """Tell the progress of running jobs in turn, each with the moment it is told, until killed."""
    jobs = _opened(url, data)
    attempts = [jobs.store.start(job_id, "benchmark") for job_id in ids]
    print(flush=True)
    due = time.monotonic()
    for turn, attempt in enumerate(itertools.cycle(attempts)):
        if attempt is None:
            raise RuntimeError("a job could not be started")
        due += float(interval)
        time.sleep(max(0.0, due - time.monotonic()))
        progress = Progress(
            fraction=1 - 1 / (turn + 2), stage=Stage.TRACING, detail=f"{time.monotonic():.6f}"
        )
        jobs.store.progress(attempt, progress)


def _opened(url: str, data: str) -> Jobs:
    return open_jobs(Settings(redis_url=SecretStr(url), data_dir=Path(data)))


@contextmanager
def writing(url: str, data: Path, interval: float, ids: Sequence[str]) -> Iterator[None]:
    """A process that tells the progress of jobs, one after another."""
    command = [sys.executable, "-m", "benchmarks.watchers", url, str(data), str(interval), *ids]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield
        finally:
            child.kill()


# The measurements


def rows(quick: bool) -> Iterator[Row]:
    watchers = WATCHERS // 10 if quick else WATCHERS
    rounds, seconds = (1, 2.0) if quick else (ROUNDS, ROUND_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reduced = "" if watchers == WATCHERS else f"{WATCHERS} watchers"
    for count, interval in ((1, PROGRESS_SECONDS), (watchers, SECONDS_BETWEEN / watchers)):
        with tempfile.TemporaryDirectory(prefix="mb-") as folder, ExitStack() as stack:
            data = Path(folder) / "data"
            stack.enter_context(mock.patch.dict(os.environ, _LEASE))
            # With a service of its own, as memory that was used once is used again.
            up = stack.enter_context(Stack(data, port=0, worker_module=WORKER))
            url = f"unix://{data / 'valkey' / 'valkey.sock'}"
            jobs = _opened(url, str(data))
            ids = [jobs.store.create(REQUEST) for _ in range(count)]
            jobs.close()
            paths = [f"/v1/jobs/{job_id}" for job_id in ids] * (watchers // count)
            stack.enter_context(writing(url, data, interval, ids))
            found = [asyncio.run(_round(up, paths, seconds)) for _ in range(rounds)]
        yield from told(found, watchers, count, reduced)


async def _round(up: Stack, paths: Sequence[str], seconds: float) -> tuple[Heard, float]:
    """What was heard, and bytes a watcher by which the API grew."""
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    before = _resident(up.pids["api"])
    watching = asyncio.create_task(watched(up.port, paths, seconds, begun))
    await begun
    await asyncio.sleep(seconds / 2)
    size = (_resident(up.pids["api"]) - before) / len(paths)
    return await watching, size


def told(
    rounds: Sequence[tuple[Heard, float]], watchers: int, count: int, reduced: str
) -> Iterator[Row]:
    found, sizes = [heard for heard, _ in rounds], [size for _, size in rounds]
    what = f"{watchers} watchers of {'one job' if count == 1 else 'as many jobs'}"
    delays = [delay for heard in found for delay in heard.delays]
    polls = [seconds for heard in found for seconds in heard.polls]
    yield Row(
        what=f"{what}: progress told to progress heard, p99 of a round",
        measured=Spread.of([_p99(heard.delays) for heard in found]),
        unit="s",
        promise=Promise("<", PROMISED_DELAY),
        promised_at=reduced,
        note=f"p50 {statistics.median(delays):.3f} s, max {max(delays):.3f} s, "
        f"{len(delays) // len(found)} events heard a round",
        samples={"ours": [_p99(heard.delays) for heard in found]},
    )
    yield Row(
        what=f"{what}: a poll beside them, p99 of a round",
        measured=Spread.of([_p99(heard.polls) for heard in found]),
        unit="s",
        note=f"p50 {statistics.median(polls):.4f} s, max {max(polls):.3f} s",
        samples={"ours": [_p99(heard.polls) for heard in found]},
    )
    # Later rounds use again what the first has made the process grow by.
    yield Row(
        what=f"{what}: memory of the API for each",
        measured=Spread.of([sizes[0] / 1024]),
        unit="KiB",
        note=f"all of them opened in {max(heard.opening for heard in found):.1f} s at most",
        samples={"ours": [size / 1024 for size in sizes]},
    )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    write(*sys.argv[1:])
