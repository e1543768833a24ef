"""A small service over real sockets that fails as services and networks do, when it is told to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from schemas.job import Artifact, ArtifactList, Job, JobEvent, Links, Progress
from schemas.names import ArtifactKind, Status
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest

FILE = bytes(range(256)) * 400
# What a handler may be told to do with its next requests.
DROP, DROP_AFTER, BUSY, AWAY, CUT, OTHER = "drop", "drop-after", "busy", "away", "cut", "other"


class RoughService(ThreadingHTTPServer):
    """Jobs by the key that they came under; `faults` are what happens to the next requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.jobs: dict[str, Job] = {}
        self.ranges = True
        self.files = [FILE]
        """What is sent, one after another; the last one stays."""
        self.archive = b""
        self.events: list[JobEvent] = []
        self.events_at_once = 2

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def submit(self, key: str, body: bytes) -> Job:
        if key not in self.jobs:
            self.jobs[key] = finished_job(
                str(len(self.jobs) + 1), JobRequest.model_validate_json(body)
            )
        return self.jobs[key]

    def sent(self, kind: str) -> list[dict[str, str]]:
        """The headers of the requests of a kind."""
        return [headers for method, path, headers in self.asked if _kind(method, path) == kind]


@contextmanager
def rough_service() -> Iterator[RoughService]:
    with RoughService() as service:
        thread = Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


def event(status: Status, fraction: float) -> JobEvent:
    progress = Progress(fraction=fraction, detail="\u2028 is no end of a line")
    return JobEvent(at=datetime.now(UTC), status=status, attempts=1, progress=progress)


def finished_job(job_id: str, request: JobRequest) -> Job:
    links = Links(self="", result="", artifacts="", archive="", events="", cancel="")
    now = datetime.now(UTC)
    return Job(
        id=job_id,
        status=Status.SUCCEEDED,
        created_at=now,
        finished_at=now,
        request=request,
        links=links,
    )


def _kind(method: str, path: str) -> str:
    parts = urlsplit(path).path.split("/")[3:]
    return "submit" if method == "POST" else (parts[1] if len(parts) > 1 else "job")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RoughService

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        kind = _kind(self.command, self.path)
        planned = self.server.faults.get(kind, [])
        fault = planned.pop(0) if planned else ""
        if fault == DROP:
            self._hang_up()
        elif fault in (BUSY, AWAY):
            problem = ProblemType.RATE_LIMIT if fault == BUSY else ProblemType.UNAVAILABLE
            self._problem(problem, {"Retry-After": "0"})
        elif kind == "submit":
            job = self.server.submit(self.headers["Idempotency-Key"], body)
            if fault == DROP_AFTER:
                self._hang_up()
            else:
                self._json(202, job.model_dump_json())
        elif kind == "events":
            self._events(fault)
        elif kind == "artifacts" and self.path.endswith("/artifacts"):
            self._list()
        elif kind == "artifacts":
            self._file(fault, self.server.files)
        elif kind == "archive":
            self._file(fault, [self.server.archive])
        else:
            (job,) = self.server.jobs.values()
            self._json(200, job.model_dump_json())

    def _hang_up(self) -> None:
        self.close_connection = True

    def _problem(self, kind: ProblemType, headers: dict[str, str]) -> None:
        self._json(kind.status, Problem.of(kind, "Why.").model_dump_json(), headers)

    def _json(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        written = body.encode()
        self._head(status, {"Content-Type": "application/json", **(headers or {})}, len(written))
        self.wfile.write(written)

    def _head(self, status: int, headers: dict[str, str], size: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if size is not None:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def _list(self) -> None:
        artifact = Artifact(
            name="figure.png",
            kind=ArtifactKind.FIGURE,
            media_type="image/png",
            size=len(FILE),
            sha256=hashlib.sha256(FILE).hexdigest(),
        )
        self._json(200, ArtifactList(job_id="1", artifacts=[artifact]).model_dump_json())

    def _file(self, fault: str, files: list[bytes]) -> None:
        """The file, or the range of it that was asked for; cut in the middle if told so."""
        whole = files.pop(0) if len(files) > 1 else files[0]
        start, status, tag = 0, 200, f'"{hashlib.sha256(whole).hexdigest()}"'
        headers, asked = {"ETag": tag}, self.headers.get("Range")
        if asked and self.server.ranges and self.headers.get("If-Range") == tag:
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        body = whole[start:]
        self._head(status, headers, len(body))
        if fault == CUT:
            self.wfile.write(body[: len(body) // 2])
            self._hang_up()
        else:
            self.wfile.write(body)

    def _events(self, fault: str) -> None:
        """Events after the last that was seen, so many a connection, the last one cut in half."""
        if fault == OTHER:
            self._problem(ProblemType.NOT_FOUND, {})
            return
        self._head(200, {"Content-Type": "text/event-stream; charset=utf-8"}, None)
        self.wfile.write(b"retry: 10\n: still here\n\n")
        seen = int(self.headers.get("Last-Event-ID", "0"))
        for number, entry in list(enumerate(self.server.events, 1))[seen:][: self._most()]:
            data = json.dumps(json.loads(entry.model_dump_json()), ensure_ascii=False)
            self.wfile.write(f"id: {number}\r\nevent: x\r\ndata: {data}\r\n\r\n".encode())
        self.wfile.write(b'id: 99\ndata: {"at"')
        self._hang_up()

    def _most(self) -> int:
        return self.server.events_at_once
