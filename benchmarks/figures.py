"""Seconds a figure takes: sheets of 1,536 neurons at 512 tokens, the token strip, the overview.

`python -m benchmarks.figures [--json PATH]`: the promise is less than 0.3 s a figure. Beside it
the same 1,536 bars of one neuron panel drawn one by one, and as one path. The runs are interleaved
and the medians reported.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from schemas.names import Method
from tests.workers.figures.documents import Shape, document, prose
from workers.figures import style
from workers.figures.overview import overview
from workers.figures.panels import bars
from workers.figures.plan import parts
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip

NEURONS, TOKENS, LAYERS = 1536, 512, (0, 6, 12, 18)
PROMISE_SECONDS = 0.3
REPEATS = 7


def panel(one_by_one: bool) -> None:
    values = np.random.default_rng(0).normal(size=NEURONS)
    figure = Figure(figsize=(style.WIDTH, 4), dpi=style.DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8), xlim=(0, NEURONS), ylim=(-4, 4))
    if one_by_one:
        axes.bar(np.arange(NEURONS), values)
    else:
        bars(axes, values, 0.8 * style.WIDTH, [style.PLAIN])
    canvas.draw()


def contenders() -> dict[str, Callable[[], object]]:
    part = parts(document(Shape([prose(TOKENS)], layers=LAYERS, neurons=NEURONS)))[0]
    sheets: dict[str, Callable[[], object]] = {
        f"sheet, {method}": lambda method=method: sheet(part, 6, method).render()
        for method in Method
    }
    return sheets | {
        "token strip": lambda: token_strip(part, 6).render(),
        "overview, rollout": lambda: overview(part, Method.ROLLOUT).render(),
        "overview, contribution": lambda: overview(part, Method.CONTRIBUTION).render(),
        "bars of one panel, one path": lambda: panel(False),
        "bars of one panel, one by one": lambda: panel(True),
    }


def measure() -> dict[str, dict[str, float]]:
    wall: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    named = contenders()
    for work in named.values():
        work()
    for _ in range(REPEATS):
        for name, work in named.items():
            begun, begun_processor = time.perf_counter(), time.process_time()
            work()
            wall.setdefault(name, []).append(time.perf_counter() - begun)
            processor.setdefault(name, []).append(time.process_time() - begun_processor)
    return {
        name: {
            "seconds": statistics.median(wall[name]),
            "processor_seconds": statistics.median(processor[name]),
        }
        for name in named
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    measured = measure()
    for name, row in measured.items():
        verdict = "" if "bars" in name else ("ok" if row["seconds"] < PROMISE_SECONDS else "OVER")
        print(
            f"{name:32} {row['seconds']:.3f} s  (CPU {row['processor_seconds']:.3f} s)  {verdict}"
        )
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps({"promise": PROMISE_SECONDS, "figures": measured}))


if __name__ == "__main__":
    main()
