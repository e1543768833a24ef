"""The runner as its supervisor sees it: a child process and the socket to talk to it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from resource import struct_rusage
from typing import Self

from workers.channel import Channel

_SEND_LIMIT = 30.0
"""Seconds a runner may take to read an attempt before it counts as dead."""


@dataclass
class RunnerProcess:
    """A runner: spawned, not forked, so that nothing of the supervisor lives on in it.

    Start it from the supervisor's main thread: its death signal is tied to the thread that
    created it. It leads a process group, so `kill` also takes what a job may have started.
    """

    process: subprocess.Popen[bytes]
    channel: Channel
    ready: bool = False
    models: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, entry: str) -> Self:
        """Spawn `python -m workers.runner` with one end of a socket pair."""
        ours, theirs = socket.socketpair()
        ours.settimeout(_SEND_LIMIT)
        with theirs:
            command = [sys.executable, "-m", "workers.runner"]
            command += ["--channel", str(theirs.fileno())]
            command += ["--parent", str(os.getpid()), "--entry", entry]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        return cls(process, Channel(ours))

    @property
    def pid(self) -> int:
        """Its process id, also that of its group."""
        return self.process.pid

    @property
    def dead(self) -> bool:
        """Whether it has ended; does not reap it, so any thread may ask."""
        if self.process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def await_ready(self, limit: float, wake: int) -> bool:
        """Whether it said `ready` within `limit` seconds and before `wake` became readable."""
        try:
            message = self.channel.receive(limit, wake)
        except EOFError:
            return False
        if message is None:
            return False
        self.models = message["models"]
        self.ready = True
        return True

    def withdraw(self) -> None:
        """Ask it to drop the job it runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """SIGKILL its whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> tuple[int, struct_rusage | None]:
        """Kill what is left of it and wait for its end; the status and usage as of wait4(2)."""
        self.kill()
        self.channel.close()
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            return 0, None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return status, usage


def describe_end(status: int) -> str:
    """How a process ended, in words, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
