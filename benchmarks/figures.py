"""Seconds a figure takes: sheets of 1,536 neurons at 512 tokens, the token strip, the overview."""

from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.row import Promise, Row, Spread
from benchmarks.timing import FULL, Contest, Effort, take_turns, timed
from schemas.names import Method
from tests.workers.figures.documents import Shape, document, parts, prose
from workers.figures import style
from workers.figures.canvas import Canvas
from workers.figures.frame import Frame
from workers.figures.marks import Box, Mark
from workers.figures.overview import overview
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip

NEURONS, TOKENS, LAYERS = 1536, 512, (0, 6, 12, 18)
PROMISE = Promise("<", 0.3)


def rows(quick: bool) -> Iterator[Row]:
    rounds = Effort(2, 1.0) if quick else FULL
    found = take_turns({name: timed(draw) for name, draw in pages().items()}, rounds)
    for name, seconds in found.items():
        yield Row(
            what=f"{name}, {NEURONS:,} neurons, {TOKENS} tokens",
            measured=Spread.of(seconds),
            unit="s",
            promise=PROMISE,
            samples={"ours": seconds},
        )
    yield Contest(
        what=f"{NEURONS:,} bars of one panel, as one outline",
        against="matplotlib's bars, drawn one by one",
    ).between(lambda: panel(one_by_one=False), lambda: panel(one_by_one=True), rounds)


def pages() -> dict[str, Callable[[], object]]:
    """Every kind of figure of a made-up document, drawn and encoded."""
    part = parts(document(Shape([prose(TOKENS)], layers=LAYERS, neurons=NEURONS)))[0]

    def drawn(method: Method) -> Callable[[], object]:
        return lambda: sheet(part, 6, method).render()

    return {f"sheet, {method}": drawn(method) for method in Method} | {
        "token strip": lambda: token_strip(part, 6).render(),
        "overview, rollout": lambda: overview(part, Method.ROLLOUT).render(),
        "overview, contribution": lambda: overview(part, Method.CONTRIBUTION).render(),
    }


def panel(one_by_one: bool) -> None:
    values = np.random.default_rng(0).normal(size=NEURONS)
    if one_by_one:
        figure = Figure(figsize=(style.WIDTH, 4), dpi=style.DPI)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8), xlim=(0, NEURONS), ylim=(-4, 4))
        axes.bar(np.arange(NEURONS), values)
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        return
    box = Box(0.1 * style.WIDTH, 0.4, 0.8 * style.WIDTH, 3.2)
    marks: list[Mark] = []
    Frame(marks, box, (0, NEURONS), (-4, 4)).bars(values, [style.PLAIN])
    canvas = Canvas(style.WIDTH, 4)
    for mark in marks:
        canvas.draw(mark)
