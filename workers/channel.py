"""What supervisor and runner say to each other, and over what."""

import json
import select
import socket
from collections.abc import Sequence
from typing import Any

from jobs import Attempt
from schemas.request import JobRequest

_CHUNK = 65536

Message = dict[str, Any]


class Channel:
    """JSON messages, one a line, over a stream socket."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._received = bytearray()

    def send(self, message: Message) -> None:
        """Send one message. Raises OSError when nobody listens any more."""
        self._stream.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None = None, wake: int | None = None) -> Message | None:
        """The next message, or None after `timeout` seconds or once `wake` is readable.

        Raises EOFError when the other end is gone.
        """
        watched: list[socket.socket | int] = [self._stream]
        if wake is not None:
            watched.append(wake)
        while b"\n" not in self._received:
            readable, _, _ = select.select(watched, [], [], timeout)
            if self._stream not in readable:
                return None
            try:
                chunk = self._stream.recv(_CHUNK)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise EOFError("the other end of the channel is gone")
            self._received += chunk
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        """Close this end."""
        self._stream.close()


def attempts_message(attempts: Sequence[Attempt]) -> Message:
    """Attempts as the supervisor sends them, to be run together."""
    return {"attempts": [_packed(attempt) for attempt in attempts]}


def attempts_from(message: Message) -> list[Attempt]:
    """The attempts in a message of the supervisor."""
    return [_unpacked(packed) for packed in message["attempts"]]


def _packed(attempt: Attempt) -> Message:
    return {
        "job_id": attempt.job_id,
        "token": attempt.token,
        "number": attempt.number,
        "request": attempt.request.model_dump(mode="json"),
    }


def _unpacked(packed: Message) -> Attempt:
    request = JobRequest.model_validate(packed["request"])
    return Attempt(packed["job_id"], packed["token"], packed["number"], request)
