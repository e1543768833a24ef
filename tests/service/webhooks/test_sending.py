"""Receivers that misbehave, names that lead inside, and TLS."""

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobs import Jobs
from schemas.settings import Settings
from tests.service.webhooks.receivers import (
    ended,
    receiving,
    silent,
    talking,
    until,
)
from tests.service.webhooks.test_deliverer import delivering, settled

NAME = "hooks.example.org"


@pytest.fixture
def guarded(loopback: Settings) -> Settings:
    return loopback.model_copy(update={"allow_private_webhooks": False})


def names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let a name server that answers so, one time after the other, know NAME; who is asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != NAME:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        answer = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in answer.split(",")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0", "[::ffff:127.0.0.1]", "2130706433"]
)
def test_nothing_inside_is_written_to(jobs: Jobs, guarded: Settings, host: str) -> None:
    with receiving() as inbox, delivering(guarded, ()):
        url = inbox.url.replace("127.0.0.1", host)
        [delivery] = settled(jobs, guarded, ended(jobs, url))
    assert delivery["error"] == "its host has no address, or one that is not public"
    assert inbox.received == []


@pytest.mark.parametrize(
    "answer", ["127.0.0.1", "8.8.8.8,127.0.0.1", "169.254.169.254", "10.1.2.3"]
)
def test_a_name_that_leads_inside_is_refused_without_a_word_of_where(
    jobs: Jobs, guarded: Settings, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    with receiving() as inbox, delivering(guarded, ()):
        names(monkeypatch, answer)
        url = inbox.url.replace("127.0.0.1", NAME)
        [delivery] = settled(jobs, guarded, ended(jobs, url))
    assert delivery["error"] == "its host has no address, or one that is not public"
    assert inbox.received == []


def test_what_was_checked_is_connected_to(
    jobs: Jobs, guarded: Settings, loopback: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name server that answers the check with one address and the connection with another.
    with receiving() as inbox, delivering(loopback, ()):
        asked = names(monkeypatch, "127.0.0.1", "203.0.113.1")
        url = inbox.url.replace("127.0.0.1", NAME)
        [delivery] = settled(jobs, loopback, ended(jobs, url))
    assert delivery["status"] == 204
    assert asked == [NAME]
    [received] = inbox.received
    assert received.headers["host"] == f"{NAME}:{inbox.port}"


def test_proxies_of_the_environment_are_not_asked(
    jobs: Jobs, loopback: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy, receiving() as inbox:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with delivering(loopback, ()):
            settled(jobs, loopback, ended(jobs, inbox.url))
    assert len(inbox.received) == 1
    assert proxy.received == []


def test_the_next_address_of_a_name_is_tried(
    jobs: Jobs, loopback: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as inbox, delivering(loopback, ()):
        names(monkeypatch, "127.0.0.9,127.0.0.1")
        url = inbox.url.replace("127.0.0.1", NAME)
        [delivery] = settled(jobs, loopback, ended(jobs, url))
    assert delivery["status"] == 204


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tls")
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {home}/key.pem -out {home}/cert.pem -days 2"
    named = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run(["openssl", *made.split(), *named], check=True, capture_output=True)
    return home


def test_tls_is_for_the_name_though_the_address_is_connected_to(
    jobs: Jobs, loopback: Settings, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with receiving(tls=certificate) as inbox, delivering(loopback, ()):
        names(monkeypatch, "127.0.0.1")
        good = settled(jobs, loopback, ended(jobs, inbox.url.replace("127.0.0.1", NAME)))
        bad = settled(jobs, loopback, ended(jobs, inbox.url))
    assert good[0]["status"] == 204
    assert str(bad[0]["error"]).startswith("its certificate was refused: ")
    assert len(inbox.events()) == 1


def test_a_certificate_of_nobody_known_is_refused(
    jobs: Jobs, loopback: Settings, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    with receiving(tls=certificate) as inbox, delivering(loopback, ()):
        names(monkeypatch, "127.0.0.1")
        url = inbox.url.replace("127.0.0.1", NAME)
        [delivery] = settled(jobs, loopback, ended(jobs, url))
    assert str(delivery["error"]).startswith("its certificate was refused: self-signed")
    assert inbox.received == []


def endless_hints(connection: socket.socket) -> None:
    connection.recv(65536)
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1000)


def endless_header(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"a" * 65536)


def endless_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")


def body_that_hangs(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na")
    silent(connection)


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.close()


def no_http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize(
    ("says", "status", "error"),
    [
        (endless_hints, None, "more than is read"),
        (endless_header, None, "no HTTP|more than is read"),
        (endless_body, 200, None),
        (body_that_hangs, 200, None),
        (hang_up, None, "no HTTP, or closed|lost"),
        (no_http, None, "no HTTP"),
    ],
)
def test_receivers_that_misbehave(
    jobs: Jobs, loopback: Settings, says: Any, status: int | None, error: str | None
) -> None:
    with talking(says) as inbox, delivering(loopback, ()):
        [delivery] = settled(jobs, loopback, ended(jobs, inbox.url))
    assert delivery["status"] == status
    words = str(delivery["error"])
    assert any(part in words for part in error.split("|")) if error else delivery["error"] is None


def test_plain_http_where_tls_is_spoken_of(jobs: Jobs, loopback: Settings) -> None:
    with receiving() as inbox, delivering(loopback, ()):
        url = inbox.url.replace("http:", "https:")
        [delivery] = settled(jobs, loopback, ended(jobs, url))
    assert delivery["status"] is None
    assert delivery["error"] in ("TLS could not be agreed on", "the connection was lost")


def test_a_silent_tls_handshake_leaves_no_connection_behind(jobs: Jobs, loopback: Settings) -> None:
    closed: list[bool] = []

    def wait_for_the_end(connection: socket.socket) -> None:
        silent(connection)
        closed.append(True)

    with talking(wait_for_the_end) as inbox, delivering(loopback, ()):
        url = inbox.url.replace("http:", "https:")
        [delivery] = settled(jobs, loopback, ended(jobs, url))
        until(lambda: bool(closed), "the end of the connection")
    assert delivery["error"] == "no answer within 2 seconds"
