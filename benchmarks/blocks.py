"""The picture of the blocks in docs/performance.md: `python -m benchmarks.blocks` draws it anew."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PATH = Path(__file__).parents[1] / "docs" / "images" / "performance-blocks.png"

PANELS = 16
_LEVELS = ("#d5e8f4", "#a8d0e8", "#6fb1d9", "#2f86bd")
_INK, _SOFT, _KEY, _QUERY, _GONE = "#1f2328", "#5d656e", "#e69f00", "#009e73", "#ffffff"


def draw(path: Path) -> None:
    figure = Figure(figsize=(10.5, 5.4), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    _triangle(figure.add_axes((0.035, 0.09, 0.44, 0.81)))
    _merge(figure.add_axes((0.5, 0.09, 0.49, 0.81)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": "Mambascope"})


def merges(panels: int) -> list[tuple[int, int, int]]:
    """(order, start, size) of every merge, as a binary counter carries over `panels`."""
    found: list[tuple[int, int, int]] = []
    for panel in range(panels):
        size = 1
        while (panel + 1) % (2 * size) == 0:
            found.append((len(found) + 1, panel + 1 - 2 * size, size))
            size *= 2
    return found


def _triangle(axes: Axes) -> None:
    axes.set_title(
        f"a   K over {PANELS} panels of sixteen tokens", loc="left", fontsize=11, fontweight="bold"
    )
    axes.set(xlim=(-0.9, PANELS), ylim=(PANELS, -0.9), aspect="equal")
    axes.axis("off")
    for order, start, size in merges(PANELS):
        level = size.bit_length() - 1
        place = (start, start + size)
        axes.add_patch(Rectangle(place, size, size, facecolor=_LEVELS[level], edgecolor="white"))
        middle = (start + size / 2, start + 1.5 * size)
        colour = "white" if level == 3 else _INK
        axes.text(
            *middle, str(order), ha="center", va="center", fontsize=6.5 + 2.5 * level, color=colour
        )
    for panel in range(PANELS):
        axes.add_patch(Rectangle((panel, panel), 1, 1, facecolor=_SOFT, edgecolor="white"))
    for query in range(PANELS):
        for key in range(query):
            if query - key > 10:
                axes.add_patch(
                    Rectangle(
                        (key, query),
                        1,
                        1,
                        facecolor="none",
                        edgecolor=_GONE,
                        hatch="////",
                        linewidth=0,
                    )
                )
    axes.text(PANELS / 2, -0.35, "key s", ha="center", fontsize=9, color=_SOFT)
    axes.text(
        -0.35, PANELS / 2, "query t", rotation=90, va="center", ha="center", fontsize=9, color=_SOFT
    )
    notes = [
        "numbers: the order of the merges",
        "of one chunk of (d, n)",
        "grey: inside a panel",
        "hatched: out of reach, left out",
    ]
    for line, note in enumerate(notes):
        axes.text(PANELS, 0.4 + 0.75 * line, note, ha="right", fontsize=8.5, color=_INK)


def _merge(axes: Axes) -> None:
    axes.set_title(
        "b   one merge: keys S meet queries T at the border r",
        loc="left",
        fontsize=11,
        fontweight="bold",
    )
    axes.set(xlim=(0, 20), ylim=(16, -0.7), aspect="auto")
    axes.axis("off")
    _factor(axes, (0.6, 4.2), (6.4, 3.4), _QUERY, "left: queries T")
    axes.text(7.75, 5.9, "×", fontsize=17, ha="center", va="center")
    _factor(axes, (8.5, 2.7), (3.4, 6.4), _KEY, "right: keys S")
    axes.text(12.75, 5.9, "=", fontsize=17, ha="center", va="center")
    axes.add_patch(Rectangle((13.6, 4.2), 3.4, 3.4, facecolor=_LEVELS[2], edgecolor="white"))
    axes.text(15.3, 5.9, "added to\nK[T, S]", ha="center", va="center", fontsize=9.5, color=_INK)
    axes.text(3.8, 8.15, "(d, n), up to 256 at a time", ha="center", fontsize=8.5, color=_SOFT)
    formulas = [
        ("left[t, (d, n)]", "= p[t, d] C[t, n] exp(A[d, n] (S_t − S_r))", _QUERY),
        ("right[s, (d, n)]", "= q[s, d] Δ[s, d] B[s, n] exp(A[d, n] (S_r − S_s))", _KEY),
    ]
    for line, (name, value, colour) in enumerate(formulas):
        y = 10.4 + 1.0 * line
        axes.text(0.6, y, name, fontsize=9.5, color=colour, fontweight="bold")
        axes.text(5.1, y, value, fontsize=9.5, color=_INK)
    for line, text in enumerate(
        (
            "Both exponents are at most 0: nothing overflows, an underflow is a true zero.",
            "Then one decay a column carries the rows of T to the block's start",
            "and those of S to its end: the two blocks are one, ready for the next.",
        )
    ):
        axes.text(0.6, 12.9 + 0.85 * line, text, fontsize=8.8, color=_INK)


def _factor(
    axes: Axes, place: tuple[float, float], size: tuple[float, float], colour: str, name: str
) -> None:
    axes.add_patch(Rectangle(place, *size, facecolor=colour, alpha=0.35, edgecolor=colour))
    axes.text(
        place[0] + size[0] / 2,
        place[1] + size[1] / 2,
        name,
        ha="center",
        va="center",
        fontsize=9.5,
        rotation=90 if size[1] > size[0] else 0,
    )


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PATH)
