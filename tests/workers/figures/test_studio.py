"""The processes that draw: real ones, killed, stopped and interrupted for real."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from schemas.names import Method
from schemas.problem import ProblemError, ProblemType
from schemas.result import Heatmap
from tests.workers.conftest import ROOT, until
from tests.workers.figures.documents import Shape, document, draw, parts, recall_words
from workers.figures.parts import TextPart
from workers.figures.plan import Drawing, figures
from workers.figures.studio import Studio
from workers.interrupts import Interrupts, TimeLimitReached

SHAPE = Shape((tuple(recall_words(8)),), neurons=32, layers=(1,), methods=(Method.ROLLOUT,))
TWO_TEXTS = Shape(
    (tuple(recall_words(8)), tuple(recall_words(5))),
    neurons=32,
    layers=(1,),
    methods=(Method.GRADIENT_GUIDED, Method.CONTRIBUTION),
)


def artists(parent: int | None = None) -> set[int]:
    """The children that draw, by process id, also those that nobody has waited for yet."""
    parent = os.getpid() if parent is None else parent
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(after_name[1]) == parent and "workers.figures.artist" in command:
            found.add(int(stat.parent.name))
    return found


@dataclass(frozen=True)
class Opened:
    studio: Studio
    others: set[int]

    def children(self) -> set[int]:
        return artists() - self.others

    def child(self) -> int:
        (only,) = self.children()
        return only

    def draw(self, *wanted: TextPart) -> list[Drawing]:
        with self.studio.drawings() as drawings:
            for each in wanted:
                drawings.begin(each)
            return list(drawings.collect())


@contextmanager
def opened(processes: int) -> Iterator[Opened]:
    before = artists()
    site = Opened(Studio(processes), before)
    try:
        until(lambda: len(site.children()) == processes, "the children have started")
        yield site
    finally:
        site.studio.close()
        assert site.children() == set()


@pytest.fixture
def single() -> Iterator[Opened]:
    """A studio of one child."""
    with opened(1) as site:
        yield site


@pytest.fixture(scope="module")
def pair() -> Iterator[Opened]:
    """A studio of two, for tests that leave its children alone."""
    with opened(2) as site:
        yield site


def part() -> TextPart:
    return parts(document(SHAPE))[0]


@cache
def drawn_here(shape: Shape) -> list[Drawing]:
    return list(draw(document(shape)))


def broken() -> TextPart:
    """A text whose first sheet cannot be drawn: its matrix has no rows."""
    good = part()
    layer = good.result.attention_analysis[1]
    method = layer.methods[Method.ROLLOUT].model_copy(
        update={"heatmap": Heatmap(queries=[0, 1], stride=1, rows=[])}
    )
    layer = layer.model_copy(update={"methods": {Method.ROLLOUT: method}})
    result = good.result.model_copy(update={"attention_analysis": {1: layer}})
    return good.model_copy(update={"result": result})


def test_the_bytes_and_their_order_are_those_of_drawing_here(pair: Opened) -> None:
    made = document(TWO_TEXTS)
    assert pair.draw(*parts(made)) == drawn_here(TWO_TEXTS)


def test_a_figure_tells_its_share_of_the_time_of_all_that_draw(pair: Opened) -> None:
    began = time.perf_counter()
    drawn = pair.draw(*parts(document(TWO_TEXTS)))
    seconds = [drawing.seconds for drawing in drawn]
    assert all(each > 0 for each in seconds)
    assert sum(seconds) <= time.perf_counter() - began


def test_two_jobs_at_once_keep_their_figures_apart(pair: Opened) -> None:
    one, other = document(SHAPE), document(TWO_TEXTS)
    with pair.studio.drawings() as first, pair.studio.drawings() as second:
        for of_one, of_other in zip([*parts(one), None], parts(other), strict=True):
            if of_one is not None:
                first.begin(of_one)
            second.begin(of_other)
        assert list(second.collect()) == drawn_here(TWO_TEXTS)
        assert list(first.collect()) == drawn_here(SHAPE)


def test_what_is_there_can_be_had_without_waiting(single: Opened) -> None:
    child = single.child()
    os.kill(child, signal.SIGSTOP)
    wanted = part()
    with single.studio.drawings() as drawings:
        drawings.begin(wanted)
        assert list(drawings.ready()) == []
        os.kill(child, signal.SIGCONT)
        got: list[Drawing] = []
        until(lambda: got.extend(drawings.ready()) or len(got) == 3, "all are drawn")
    assert [drawing.name for drawing in got] == [figure.name for figure in figures(wanted)]


def test_a_child_killed_with_a_figure_in_hand_is_replaced(single: Opened) -> None:
    child = single.child()
    os.kill(child, signal.SIGSTOP)
    with single.studio.drawings() as drawings:
        drawings.begin(part())
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        assert list(drawings.collect()) == drawn_here(SHAPE)
    assert single.child() != child


def test_a_figure_that_kills_every_child_fails_its_job_and_not_the_next(single: Opened) -> None:
    stop = threading.Event()

    def kill_them_all() -> None:
        while not stop.wait(0.01):
            for child in single.children():
                os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill_them_all)
    killer.start()
    try:
        with pytest.raises(ProblemError, match=r"attention_neurons_rollout_layer1\.png") as caught:
            single.draw(part())
    finally:
        stop.set()
        killer.join()
    assert caught.value.kind is ProblemType.WORKER_LOST
    assert "`figures`" in str(caught.value)
    assert single.draw(part()) == drawn_here(SHAPE)


def test_a_child_that_answers_no_more_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr("workers.figures.studio.PATIENCE", 1)
            single = stack.enter_context(opened(1))
        child = single.child()
        os.kill(child, signal.SIGSTOP)
        assert single.draw(part()) == drawn_here(SHAPE)
        assert single.child() != child


def test_an_exception_comes_back_as_it_was_raised(pair: Opened) -> None:
    before = pair.children()
    with pytest.raises(ValueError, match="empty") as caught:
        pair.draw(broken())
    logged = "".join(traceback.format_exception(caught.value))
    assert "In the process that drew" in logged
    assert "workers/figures/panels.py" in logged
    assert pair.draw(part()) == drawn_here(SHAPE)
    assert pair.children() == before


def test_a_failure_is_raised_where_it_is_asked_for(pair: Opened) -> None:
    with pair.studio.drawings() as drawings:
        drawings.begin(broken())

        def failure() -> ValueError | None:
            assert list(drawings.ready()) == []
            try:
                drawings.require_sound()
            except ValueError as error:
                return error
            return None

        assert "empty" in str(until(failure, "the failure is known"))
        with pytest.raises(ValueError, match="empty"):
            list(drawings.collect())


# An interrupt that falls into a destructor is lost, as it would be in the runner, which repeats it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_the_studio_whole(
    pair: Opened, interrupts: Interrupts
) -> None:
    wanted, here = part(), drawn_here(SHAPE)
    children = pair.children()
    interrupted = 0
    for step in range(25):
        try:
            with interrupts.limit(2e-4 * 1.35**step):
                pair.draw(wanted, wanted)
        except TimeLimitReached:
            interrupts.disarm()
            interrupted += 1
    assert interrupted >= 10
    assert pair.draw(wanted) == here
    assert pair.children() == children


def test_dropped_drawings_are_not_drawn(single: Opened) -> None:
    child = single.child()
    os.kill(child, signal.SIGSTOP)
    with single.studio.drawings() as dropped:
        for _ in range(10):
            dropped.begin(part())
    os.kill(child, signal.SIGCONT)
    assert single.draw(part()) == drawn_here(SHAPE)
    assert single.studio.tasks.empty()
    assert len(list(dropped.ready())) <= 1


def test_a_job_is_not_stopped_by_ctrl_c(pair: Opened) -> None:
    assert pair.draw(part())
    for child in pair.children():
        os.kill(child, signal.SIGINT)
    before = pair.children()
    assert pair.draw(part()) == drawn_here(SHAPE)
    assert pair.children() == before


PARENT = """
import sys, time
from workers.figures.studio import Studio
from workers.interrupts import Interrupts, TimeLimitReached
studio = Studio(2)
print("open", sorted({"matplotlib", "numpy", "torch"} & set(sys.modules)), flush=True)
time.sleep(60)
"""


def test_children_die_with_their_parent_which_loads_no_matplotlib() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "open []\n"
        until(lambda: len(artists(parent.pid)) == 2, "the children have started")
        children = artists(parent.pid)
        parent.kill()
        parent.wait()
        until(lambda: not any(alive(child) for child in children), "the children are dead")


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_child_loads_neither_torch_nor_a_store() -> None:
    code = (
        "import sys, workers.figures.artist; "
        "print(sorted({'torch', 'transformers', 'redis', 'rq', 'numba'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
