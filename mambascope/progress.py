"""A job's progress on standard error: a bar in a terminal, a line per stage anywhere else."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as ElapsedColumn
from rich.table import Column

from mambascope.visible import visible
from schemas.job import Job
from schemas.names import Status


class Teller(Protocol):
    """Tells how far things are."""

    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        """What is being done now; `fraction` from 0 to 1, or None while it is not known."""

    def notice(self, line: str) -> None:
        """Something that happened on the way."""


def tell_job(teller: Teller, job: Job) -> None:
    """Tell where a job stands."""
    if job.status is Status.QUEUED:
        ahead = job.queue_position
        detail = f"{ahead} {'job' if ahead == 1 else 'jobs'} ahead" if ahead else ""
        teller.stage(job.status, detail)
    elif job.status is Status.RUNNING and job.progress.stage is not None:
        told = (left(job.progress.remaining_seconds), visible(job.progress.detail))
        detail = ", ".join(filter(None, told))
        teller.stage(f"running: {job.progress.stage}", detail, job.progress.fraction)
    else:
        finished = job.status is Status.SUCCEEDED
        teller.stage(job.status, fraction=1.0 if finished else job.progress.fraction)


def left(seconds: float | None) -> str:
    """The time that is left in a unit that suits it; nothing while it is not known."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 100 * size:
            return f"about {math.ceil(seconds / size)} {unit} left"
    return f"about {math.ceil(seconds / 3600)} h left"


@contextmanager
def teller() -> Iterator[Teller]:
    """The one that fits standard error. The bar is gone at the end; lines stay."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        ElapsedColumn(),
        TextColumn(
            "{task.fields[detail]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        yield _Bar(bar, bar.add_task("starting", total=None, detail=""))


@contextmanager
def onlooker(progress: bool) -> Iterator[Teller]:
    """The one for who calls from Python: a bar in a terminal, a line in a notebook, else none."""
    if progress and _is_notebook():
        yield _Cell()
    elif progress and sys.stderr.isatty():
        with teller() as told:
            yield told
    else:
        yield _Nobody()


def _is_notebook() -> bool:
    """Whether the code runs in a kernel that shows what it is given."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class _Cell:
    """One line of a notebook's cell, written over. The bar of rich would need widgets."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._handle = DisplayHandle()
        self._line = ""

    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        percent = "" if fraction is None else f" {fraction:.0%}"
        line = visible(f"{name}{percent} {detail}".rstrip())
        if line == self._line:
            return
        show = self._handle.update if self._line else self._handle.display
        self._line = line
        width = 0 if fraction is None else round(100 * fraction)
        bar = f"<progress max='100' value='{width}'></progress> {escape(line)}"
        show({"text/plain": line, "text/html": bar}, raw=True)

    def notice(self, line: str) -> None:
        print(visible(line), file=sys.stderr)


class _Nobody:
    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        """Nobody looks."""

    def notice(self, line: str) -> None:
        """Nobody looks."""


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        # `update` takes a total of None for one that stays.
        self._bar.tasks[0].total = None if fraction is None else 1.0
        self._bar.update(self._task, description=name, completed=fraction or 0.0, detail=detail)

    def notice(self, line: str) -> None:
        self._bar.console.print(visible(line), markup=False, highlight=False)


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        if name != self._last:
            self.notice(f"{name} ({detail})" if detail else name)
            self._last = name

    def notice(self, line: str) -> None:
        print(visible(line), file=sys.stderr, flush=True)
