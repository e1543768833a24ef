"""The whole of Mambascope as processes: store, API, workers.

`with Stack(data_dir=Path("data"), port=0) as stack: httpx.get(stack.url + "/readyz")`
"""

import errno
import fcntl
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from mambascope.embedded import EmbeddedUnavailable, EmbeddedValkey, embed, reachable
from mambascope.keeper import Child, Keeper
from mambascope.keyring import KeyringError, require_keys

# Seconds, but for the deaths. A first start compiles the kernels, on a busy machine for minutes.
_START_LIMIT = 300.0
_DEATHS_BEFORE_READY = 3
_LOCK_PATIENCE = 2.0
_LOOK = 0.1
# From SIGTERM to SIGKILL: the API and the workers first, then the store, within ten together.
_STOP_PATIENCE = 6.0
_STORE_PATIENCE = 3.0


class StackError(Exception):
    """The stack cannot run as asked; the message says why and what to do."""


@dataclass
class Stack:
    """Starts the stack, keeps its processes alive, and stops it. Also a context manager.

    With `redis_url` None an embedded Valkey is started, with its data under `data_dir`. Port 0
    takes any free port. The log of each process is `data_dir`/logs/, or standard error when
    `verbose`. Start it from a thread that outlives it. Linux.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8090
    workers: int = 1
    allow_remote: bool = False
    redis_url: str | None = None
    verbose: bool = False
    notice: Callable[[str], None] = field(default=lambda line: None, repr=False)
    worker_module: str = "workers"
    _keeper: Keeper = field(init=False, repr=False)
    _store: EmbeddedValkey | None = field(init=False, default=None, repr=False)
    _store_url: str = field(init=False, default="", repr=False)
    _lock: int | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.data_dir = self.data_dir.absolute()
        self._keeper = Keeper(lambda line: self.notice(line))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the API answers, from this machine."""
        host = self.host
        with suppress(ValueError):
            address = ipaddress.ip_address(host)
            if address.is_unspecified:
                host = "127.0.0.1" if address.version == 4 else "::1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        kept = self._keeper.children()
        return {child.name: child.process.pid for child in kept if child.process is not None}

    def start(self) -> None:
        """Start everything and wait until a job sent now would run. Raises StackError."""
        try:
            self._prepare()
            self._start_store()
            if not self.allow_remote:
                require_keys(self.host, self._store_url)
            self._start_parts()
            self._await_ready()
        except (EmbeddedUnavailable, KeyringError) as error:
            self.stop()
            raise StackError(str(error)) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, at the latest ten seconds after the call."""
        self._keeper.stop()
        if self._store is not None:
            self._store.clean()
            self._store = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Starting

    def _prepare(self) -> None:
        try:
            logs = self.data_dir / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.data_dir)
            for log in logs.glob("*.log"):
                log.replace(log.with_suffix(".log.old"))
            self._port_file.unlink(missing_ok=True)
        except OSError as error:
            raise StackError(
                f"The data directory {self.data_dir} cannot be used ({error.strerror}): choose "
                "another with --data-dir."
            ) from error
        _check_port(self.host, self.port)
        self._keeper.start()

    def _start_store(self) -> None:
        if self.redis_url is not None:
            if not reachable(self.redis_url):
                raise StackError(
                    "Nothing answers at MAMBASCOPE_REDIS_URL: start that Redis or Valkey, or "
                    "unset the variable to use the embedded one."
                )
            self._store_url = self.redis_url
            return
        self._store = store = embed(self.data_dir)
        self._store_url = store.url
        held = () if self._lock is None else (self._lock,)
        # It holds the lock too, so that no second server opens the same files while it lives.
        self._keeper.add(self._child("store", store.command(), {}, _STORE_PATIENCE, pass_fds=held))
        self._await(lambda: store.answers(), "the embedded Valkey")

    def _start_parts(self) -> None:
        api = self._child("api", [sys.executable, "-m", "service"], {}, _STOP_PATIENCE)
        cores = len(os.sched_getaffinity(0))
        threads = {"MAMBASCOPE_THREADS": str(max(1, cores // self.workers))}
        command = [sys.executable, "-m", self.worker_module]
        names = [f"worker-{number}" for number in range(1, self.workers + 1)]
        workers = [self._child(name, command, threads, _STOP_PATIENCE) for name in names]
        self._keeper.add(api, *workers)
        self._await(self._port_file.exists, "the API")
        self.port = int(self._port_file.read_text())
        # Started again, it keeps the port it found.
        api.environment["MAMBASCOPE_PORT"] = str(self.port)

    def _await_ready(self) -> None:
        with httpx.Client(base_url=self.url, timeout=5.0, trust_env=False) as client:
            self._await(lambda: _answers(client), "a worker")

    def _await(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_LIMIT
        while not done():
            for child in self._keeper.children():
                if child.deaths >= _DEATHS_BEFORE_READY:
                    raise StackError(
                        f"The {child.name} does not start ({child.last_end}){_log_of(child)}"
                    )
            if time.monotonic() > deadline:
                raise StackError(
                    f"Waited {_START_LIMIT:.0f} s for {what}; see {self.data_dir / 'logs'}."
                )
            time.sleep(_LOOK)

    def _child(
        self,
        name: str,
        command: list[str],
        more: dict[str, str],
        patience: float,
        pass_fds: tuple[int, ...] = (),
    ) -> Child:
        environment = {**more, **os.environ, **self._environment()}
        log = None if self.verbose else self.data_dir / "logs" / f"{name}.log"
        return Child(name, command, environment, log, patience, pass_fds)

    def _environment(self) -> dict[str, str]:
        return {
            "MAMBASCOPE_DATA_DIR": str(self.data_dir),
            "MAMBASCOPE_REDIS_URL": self._store_url,
            "MAMBASCOPE_HOST": self.host,
            "MAMBASCOPE_PORT": str(self.port),
            "MAMBASCOPE_PORT_FILE": str(self._port_file),
            "MAMBASCOPE_ALLOW_REMOTE": str(self.allow_remote).lower(),
        }

    @property
    def _port_file(self) -> Path:
        return self.data_dir / "api.port"


def _lock(data_dir: Path) -> int:
    """Take the data directory for this instance, or raise StackError naming the other."""
    path = data_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # The store of an instance that was just killed may hold it for a moment longer.
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as taken:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise StackError(
                    f"The data directory {data_dir} is in use by another Mambascope (process "
                    f"{path.read_text() or '?'}): stop it, or choose another with --data-dir."
                ) from taken
            time.sleep(_LOOK)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _check_port(host: str, port: int) -> None:
    """Raise StackError when the API could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(
                f"Port {port} on {host} is in use: choose another with --port, or --port 0 for "
                "any free one."
            ) from error
        raise StackError(f"Cannot listen on {host}, port {port}: {error.strerror}.") from error


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _log_of(child: Child) -> str:
    if child.log is None:
        return "; its output is above."
    lines = child.log.read_text(errors="replace").splitlines() if child.log.exists() else []
    last = f": {lines[-1]}" if lines else "."
    return f"; its log is {child.log}{last}"
