"""Processes that draw figures while the runner computes.

matplotlib holds the interpreter's lock: threads would take turns with the computation. So each
figure is drawn by a child process, and each child belongs to a thread here that starts it, feeds
it and replaces it. The threads and the caller share nothing but `SimpleQueue`s and one flag, all of
whose operations are single steps: an exception that a signal raises in the caller, at any moment,
finds and leaves them whole.
"""

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread

import structlog

from schemas.problem import ProblemError, ProblemType
from workers.figures.parts import Part
from workers.figures.plan import Drawing, Figure, figures

log = structlog.get_logger("workers.figures")

MOST_TRIES = 2
# Seconds after which a child that neither reads nor answers counts as dead: far more than a figure
# takes on a machine that has other work.
PATIENCE = 300


class Drawings:
    """The drawings of one job, in the order in which they were asked for."""

    def __init__(self, studio: "Studio") -> None:
        self._studio = studio
        self._outcomes: SimpleQueue[tuple[int, Drawing | Exception]] = SimpleQueue()
        self._early: dict[int, Drawing] = {}
        self._failure: Exception | None = None
        self._given = 0
        self.begun = 0
        self.dropped = False

    def begin(self, part: Part) -> None:
        """Have every figure of a part drawn; returns at once, with the part serialised."""
        sent = SentPart(next(self._studio.serials), part.model_dump_json().encode())
        for figure in figures(part):
            self._studio.tasks.put(Task(self, self.begun, figure, sent))
            self.begun += 1

    def collect(self) -> Iterator[Drawing]:
        """All that were begun and not given yet. Raises what `require_sound` does, at once."""
        while (drawing := self._next(wait=True)) is not None:
            yield drawing
        self.require_sound()

    def ready(self) -> Iterator[Drawing]:
        """Those of them that are there; raises nothing, but gives none after a failure."""
        while (drawing := self._next(wait=False)) is not None:
            yield drawing

    def require_sound(self) -> None:
        """Raise what drawing any of them raised, as far as it is known.

        With a note of the traceback in the child; ProblemError when one child after another died at
        a figure.
        """
        if self._failure is not None:
            raise self._failure

    def _next(self, wait: bool) -> Drawing | None:
        """The next in order; None after the last, where it is not there yet, or if any failed."""
        if self._given == self.begun:
            return None
        while self._failure is None and self._given not in self._early:
            try:
                place, outcome = self._outcomes.get(block=wait)
            except Empty:
                return None
            if isinstance(outcome, Exception):
                self._failure = outcome
            else:
                self._early[place] = outcome
        if self._failure is not None:
            return None
        self._given += 1
        return self._early.pop(self._given - 1)

    def settle(self, place: int, outcome: Drawing | Exception) -> None:
        """Called by the studio: what became of the figure at `place`."""
        self._outcomes.put((place, outcome))


@dataclass(frozen=True)
class SentPart:
    """A part of a document as JSON, and a number by which a child knows it again."""

    serial: int
    json: bytes


@dataclass(frozen=True)
class Task:
    """One figure to draw, and for whom."""

    drawings: Drawings
    place: int
    figure: Figure
    part: SentPart


class Studio:
    """Draws `processes` figures at a time, for any number of jobs; first come, first served.

    The children start at once, in the background.
    """

    def __init__(self, processes: int) -> None:
        self.tasks: SimpleQueue[Task | None] = SimpleQueue()
        self.serials = count()
        self.processes = processes
        self._closed = False
        self._threads = [
            Thread(target=self._work, name=f"artist-{index}", daemon=True)
            for index in range(processes)
        ]
        for thread in self._threads:
            thread.start()

    @contextmanager
    def drawings(self) -> Iterator[Drawings]:
        """The drawings of one job; those not collected by the end of the block are dropped."""
        drawings = Drawings(self)
        try:
            yield drawings
        finally:
            drawings.dropped = True

    def close(self) -> None:
        """End every child, after the figure it has in hand."""
        self._closed = True
        for _ in self._threads:
            self.tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        artist = ArtistProcess()
        with suppress(OSError):
            artist.start()
        while self._serve(artist, self.tasks.get()):
            pass
        artist.end()

    def _serve(self, artist: "ArtistProcess", task: Task | None) -> bool:
        """Settle one task; False for the last."""
        if task is None:
            return False
        if not (self._closed or task.drawings.dropped):
            began = time.perf_counter()
            outcome = artist.draw(task)
            if isinstance(outcome, Drawing):
                seconds = (time.perf_counter() - began) / self.processes
                outcome = replace(outcome, seconds=seconds)
            task.drawings.settle(task.place, outcome)
        return True


class ArtistProcess:
    """The parent's handle on a child that draws, and the socket to it; used by one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._serial = -1

    def start(self) -> None:
        """Start the child. Its death signal is tied to the calling thread."""
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", PATIENCE, 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        with theirs:
            self._connection = Connection(ours.detach())
            command = [sys.executable, "-m", "workers.figures.artist"]
            command += ["--channel", str(theirs.fileno()), "--parent", str(os.getpid())]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Drawing multiplies no matrices, and idle BLAS threads cost memory.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    def end(self) -> None:
        """Kill the child, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._connection, self._serial = None, None, -1

    def draw(self, task: Task) -> Drawing | Exception:
        """The drawing, or why there is none."""
        figure = task.figure
        for _ in range(MOST_TRIES):
            try:
                answer = self._ask(task)
            except (OSError, EOFError) as error:
                log.warning("a drawing process died", figure=figure.name, cause=repr(error))
                self.end()
            except Exception as error:  # A thread that ends would leave its job waiting for ever.
                self.end()
                return error
            else:
                if isinstance(answer, Exception):
                    return answer
                return Drawing(figure.name, answer, figure.shows)
        return ProblemError(
            ProblemType.WORKER_LOST,
            f"The process that draws `{figure.name}` died {MOST_TRIES} times, most likely for want "
            "of memory. `figures` set to false gives every number without them.",
        )

    def _ask(self, task: Task) -> bytes | Exception:
        if self._connection is None:
            self.start()
        assert self._connection is not None
        is_new = task.part.serial != self._serial
        self._connection.send((is_new, task.figure.shows))
        if is_new:
            self._connection.send_bytes(task.part.json)
            self._serial = task.part.serial
        answer: bytes | Exception = self._connection.recv()
        return answer
