"""What the texts of one model have in common: `attention_knowledge_averages` by layer."""

from collections.abc import Sequence

import numpy as np

from schemas.result import AveragedKnowledge
from workers.figures import captions, curves, legends, words
from workers.figures.captions import Caption
from workers.figures.colours import KINDS
from workers.figures.curves import Across, Curve
from workers.figures.legends import Entry
from workers.figures.marks import Box
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import AveragesPart

# Lengths in inches.
LEFT, PANEL_WIDTH, PANEL_HEIGHT = 0.75, 3.15, 1.6
ACROSS, DOWN, HEAD = 4.15, 2.6, 0.6

PANELS = (
    ("Attention entropy", "share of the largest possible", "attention_entropy_normalised"),
    ("Effective keys", "exp(entropy): tokens that a token reads", "effective_keys"),
    ("Sink", "weight on the first token", "first_token_mass"),
    ("Distance", "tokens from a token back to what it reads", "mean_distance"),
)


def averages(part: AveragesPart) -> Page:
    """A panel for each quantity, a line for each method, with the intervals over the texts."""
    methods = list(dict.fromkeys(average.method for average in part.averages))
    top = HEADER_HEIGHT + 0.25 + legends.ROW * len(methods)
    page = Page(_caption(part), height=top + 2 * DOWN + 0.1 + FOOTER_HEIGHT)
    of_method = {
        method: sorted((a for a in part.averages if a.method == method), key=lambda a: a.layer)
        for method in methods
    }
    legends.rows(
        page,
        HEADER_HEIGHT + 0.25,
        [
            Entry(
                KINDS[index % len(KINDS)],
                captions.METHODS[method].title,
                words.several(len(of_method[method]), "layer"),
            )
            for index, method in enumerate(methods)
        ],
    )
    across = Across.layers([average.layer for average in part.averages], PANEL_WIDTH)
    for index, (title, unit, field) in enumerate(PANELS):
        row, column = divmod(index, 2)
        box = Box(LEFT + column * ACROSS, top + row * DOWN + HEAD, PANEL_WIDTH, PANEL_HEIGHT)
        page.heading(box.left - 0.45, box.top - 0.36, "abcd"[index], title, unit)
        lines = [_curve(i, of_method[method], field) for i, method in enumerate(methods)]
        curves.panel(page, box, across, lines)
    return page


def _caption(part: AveragesPart) -> Caption:
    texts = max(average.texts for average in part.averages)
    layers = len({average.layer for average in part.averages})
    return Caption(
        title="Attention · averages over texts",
        model=part.model,
        explains=f"means over {words.several(texts, 'text')}, {words.several(layers, 'layer')}",
        facts="attention_knowledge_averages of the result",
        choices="95% intervals by a bootstrap over the texts",
        job=captions.of_job(part.job_id),
    )


def _curve(index: int, found: Sequence[AveragedKnowledge], field: str) -> Curve:
    intervals = [getattr(average, field) for average in found]
    low, mean, high = (
        np.array([getattr(interval, end) for interval in intervals])
        for end in ("low", "mean", "high")
    )
    layers = np.array([average.layer for average in found], dtype=np.float64)
    return Curve(KINDS[index % len(KINDS)], layers, mean, low, high)
