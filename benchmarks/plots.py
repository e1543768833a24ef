"""The curves as plots, from what a run has measured: time at the left, memory at the right."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import curves
from benchmarks.row import Row

_TITLES = {
    "tokens": ("tokens", "one layer's matrix, d_inner 1,536, d_state 16"),
    "channels": ("d_inner", f"one layer's matrix, {curves.FIXED} tokens, d_state 16"),
    "texts": ("texts", f"target gradients of texts of {curves.EACH} tokens, 130M shape"),
}
_UNITS = {"time": "seconds", "memory": "GB added at the peak"}
# Okabe and Ito's colours, told apart by readers of every kind of sight; marks tell them apart too.
_LINES = {
    curves.OURS: ("#0072b2", "o", "-"),
    f"{curves.OURS}, nothing forgotten": ("#56b4e9", "s", "-"),
    curves.ONE_BY_ONE: ("#56b4e9", "s", "-"),
    curves.PRODUCT: ("#1f2328", "D", "--"),
    curves.PER_CHANNEL: ("#e69f00", "^", "-"),
    curves.ROWS: ("#009e73", "v", "-"),
    curves.LOOPS: ("#d55e00", "x", "-"),
    curves.OWN_SCAN: ("#d55e00", "^", "-"),
    curves.MATERIALISED: ("#888888", "", ":"),
}


def draw(points: Sequence[Row], folder: Path) -> list[Path]:
    """One picture a variable, `performance-<variable>.png`; none where no point was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for variable, (label, title) in _TITLES.items():
        panels = {kind: [p for p in points if p.curve == f"{kind}-{variable}"] for kind in _UNITS}
        if not all(panels.values()):
            continue
        figure = Figure(figsize=(9.5, 4.6), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", fontweight="bold")
        for axes, (kind, found) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            _panel(axes, found)
            axes.set_xlabel(label)
            axes.set_title(_UNITS[kind], fontsize=9.5, loc="left")
        # One legend for both: each line has one look wherever it appears.
        lines = dict(
            pair[::-1]
            for axes in figure.axes
            for pair in zip(*axes.get_legend_handles_labels(), strict=True)
        )
        figure.legend(
            lines.values(), lines, fontsize=8, frameon=False, ncols=4, loc="outside lower center"
        )
        drawn.append(folder / f"performance-{variable}.png")
        figure.savefig(drawn[-1], metadata={"Software": "Mambascope"})
    return drawn


def _panel(axes: Axes, points: Sequence[Row]) -> None:
    """Every line with its spread, on logarithmic axes: a straight line is a power."""
    lines: dict[str, list[Row]] = {}
    for point in points:
        lines.setdefault(point.what, []).append(point)
    for name, found in lines.items():
        colour, mark, dash = _LINES[name]
        spreads = [point.measured for point in found if point.measured is not None]
        middle = [spread.median for spread in spreads]
        below = [spread.median - spread.low for spread in spreads]
        above = [spread.high - spread.median for spread in spreads]
        at = [point.at for point in found]
        axes.errorbar(
            at,
            middle,
            [below, above],
            color=colour,
            marker=mark,
            linestyle=dash,
            markersize=4.5,
            linewidth=1.5,
            elinewidth=0.8,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({point.at for point in points})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    axes.grid(color="#e8ebee", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
