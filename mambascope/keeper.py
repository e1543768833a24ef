"""Starts processes, starts them again when they die, and stops them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mambascope import tether

_LOOK = 0.1
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 15.0
_STEADY = 30.0
"""A process that lived this many seconds starts again without delay."""


@dataclass
class Child:
    """One process to keep alive."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None
    patience: float
    """Seconds between SIGTERM and SIGKILL."""
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    last_end: str = ""
    _started_at: float = 0.0
    _start_at: float = 0.0

    def tend(self) -> str | None:
        """Start it when it is due; what to tell the user when it was found dead."""
        now = time.monotonic()
        if self.process is None:
            return self._start_if_due(now)
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        self._postpone(now, _end(code))
        return f"The {self.name} ended ({self.last_end}); starting it again."

    def _postpone(self, now: float, end: str) -> None:
        """Count a death and set the time of the next start."""
        self.last_end = end
        self.deaths = 1 if now - self._started_at > _STEADY else self.deaths + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self.deaths - 1))
        self._start_at = now + (0 if self.deaths == 1 else pause)

    def _start_if_due(self, now: float) -> str | None:
        if now < self._start_at:
            return None
        try:
            self._start()
        except OSError as error:
            # Left to rise, it would end the keeper's thread, and with that every child.
            self._postpone(now, f"{error.strerror}: {error.filename or 'no process'}")
            return f"The {self.name} cannot be started ({self.last_end}); trying again."
        return None

    def _start(self) -> None:
        self._started_at = time.monotonic()
        command = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid())]
        output = None if self.log is None else self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                command + self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.pass_fds,
                # A Ctrl-C in the terminal reaches the keeper alone, which stops all in order.
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def wait(self, deadline: float) -> None:
        """Wait for its end until the deadline, then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.process = None


@dataclass(eq=False)
class Keeper(threading.Thread):
    """Keeps its children alive until stopped; then stops them, the last added group last.

    Every child is started from this thread, because the death signal of a tethered process is tied
    to the thread that created it: this one lives until all of them have ended.
    """

    notice: Callable[[str], None]
    _groups: list[list[Child]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="keeper", daemon=True)

    def add(self, *children: Child) -> None:
        """Keep these too; they are stopped together, before those added earlier."""
        self._groups.append(list(children))

    def children(self) -> list[Child]:
        """All that are kept."""
        return [child for group in self._groups for child in group]

    def run(self) -> None:
        """Keep until `stop`."""
        while not self._stopping.wait(_LOOK):
            for child in self.children():
                if (told := child.tend()) is not None:
                    self.notice(told)
        for group in reversed(self._groups):
            for child in group:
                child.signal(signal.SIGTERM)
            now = time.monotonic()
            for child in group:
                child.wait(now + child.patience)

    def stop(self) -> None:
        """Stop all children, and the thread."""
        self._stopping.set()
        if self.is_alive():
            self.join()


def _end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
