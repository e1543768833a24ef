"""Receivers of webhooks: real servers on loopback that note down what they are sent."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jobs import Jobs
from jobs.keys import Keys
from schemas.request import JobRequest
from schemas.settings import Settings

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LIMIT = 20.0


def verified(headers: dict[str, str], body: bytes, secret: str = SECRET) -> dict[str, Any]:
    """The event in a webhook whose signature is right, as a receiver checks it by the standard."""
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode()
    expected = hmac.digest(key, signed + b"." + body, hashlib.sha256)
    given = [part.split(",") for part in headers["webhook-signature"].split(" ")]
    assert any(
        version == "v1" and hmac.compare_digest(base64.b64decode(found), expected)
        for version, found in given
    )
    event: dict[str, Any] = json.loads(body)
    return event


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Inbox:
    """A running receiver: where it listens, and what it was sent."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def events(self) -> list[dict[str, Any]]:
        return [verified(one.headers, one.body) for one in self.received]

    def wait_for(self, count: int) -> list[Received]:
        until(lambda: len(self.received) >= count, f"{count} webhooks at port {self.port}")
        return self.received[:count]


Answer = tuple[int, dict[str, str]]


@contextmanager
def receiving(
    answer: Callable[[int], Answer] = lambda nth: (204, {}),
    tls: Path | None = None,
    port: int = 0,
) -> Iterator[Inbox]:
    """A receiver whose nth request, from 0, is answered so; `tls` holds key.pem and cert.pem."""
    inbox = Inbox(scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            nth = len(inbox.received)
            inbox.received.append(Received(self.path, headers, body, time.monotonic()))
            status, extra = answer(nth)
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    inbox.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def talking(says: Callable[[socket.socket], None]) -> Iterator[Inbox]:
    """A server that treats each connection as it likes; `received` counts the connections."""
    inbox = Inbox()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    inbox.port = listener.getsockname()[1]
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):  # the other side has gone
            says(connection)

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_ones.append(connection)
            inbox.received.append(Received("", {}, b"", time.monotonic()))
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_ones:
            connection.close()
        thread.join()


def silent(connection: socket.socket) -> None:
    """Read what comes, and never answer."""
    while connection.recv(65536):
        pass


def dead_url() -> str:
    """A URL at whose port nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"http://127.0.0.1:{gone.getsockname()[1]}/hook"


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that has to come true."""
    give_up = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.01)


def submitted(jobs: Jobs, url: str, secret: str | None = SECRET, **rest: Any) -> str:
    """The id of a queued job whose receiver is this one."""
    webhook = {"url": url, "secret": secret}
    return jobs.submit(JobRequest(texts=["apple 3 river"], webhook=webhook, **rest)).id


def ended(jobs: Jobs, url: str, secret: str | None = SECRET, **rest: Any) -> str:
    """The id of a job that has succeeded, so that its webhook is due."""
    job_id = submitted(jobs, url, secret, **rest)
    succeed(jobs, job_id)
    return job_id


def succeed(jobs: Jobs, job_id: str) -> None:
    attempt = jobs.store.start(job_id, "worker-1")
    assert attempt is not None
    jobs.store.succeed(attempt, [])


def record(jobs: Jobs, settings: Settings, job_id: str) -> dict[str, Any]:
    """What the store holds of a job's webhook."""
    keys = Keys(settings.key_prefix)
    read = jobs.redis.hgetall(keys.record(job_id))
    fields = {name.decode(): value.decode() for name, value in read.items()}
    due = jobs.redis.zscore(keys.outbox, job_id)
    return {
        "deliveries": json.loads(fields.get("deliveries") or "[]"),
        "revision": int(fields["revision"]),
        "secret": fields.get("webhook_secret", ""),
        "due": due,
    }
