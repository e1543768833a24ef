"""All blocks of a model in a few numbers each, by layer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schemas.names import Block, Mixer
from workers.figures import blocks, captions, curves, legends, words
from workers.figures.captions import Caption
from workers.figures.colours import KINDS
from workers.figures.curves import Across, Curve
from workers.figures.legends import Entry
from workers.figures.marks import Box
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import BlockSummary, NeuronOverviewPart

# Lengths in inches.
LEFT, PANEL_WIDTH, PANEL_HEIGHT = 0.75, 3.15, 1.3
ACROSS, DOWN, HEAD = 4.15, 2.3, 0.55


@dataclass(frozen=True)
class Panel:
    """A quantity of blocks, of those that have it."""

    title: str
    unit: str
    value: Callable[[BlockSummary], float | None]


PANELS = (
    Panel(
        "Gini", "of mean magnitudes: 0 all alike, near 1 a single one", lambda s: s.sparsity.gini
    ),
    Panel(
        "Hoyer per token",
        "mean over tokens: 0 all alike, 1 a single one",
        lambda s: s.sparsity.hoyer_per_token,
    ),
    Panel("Dead neurons", "% of the block's neurons", lambda s: 100 * s.dead),
    Panel("Rare neurons", "% of the block's neurons", lambda s: 100 * s.rare),
    Panel(
        "Mean magnitude", "of the activation, over neurons and tokens", lambda s: s.mean_magnitude
    ),
    Panel("Excess kurtosis", "median over neurons: above 0 for heavy tails", lambda s: s.kurtosis),
    Panel("Step Δ", "mean over channels or heads, and tokens", lambda s: s.delta),
)
Kind = tuple[Block, Mixer | None]


def neuron_layers(part: NeuronOverviewPart) -> Page:
    """A panel for each quantity, a line for each kind of block that has it."""
    kinds = list(dict.fromkeys(_kind(summary) for summary in part.summaries))
    shown = [panel for panel in PANELS if any(panel.value(s) is not None for s in part.summaries)]
    top = HEADER_HEIGHT + 0.25 + legends.ROW * len(kinds)
    rows = -(-len(shown) // 2)
    page = Page(_caption(part), height=top + rows * DOWN + 0.1 + FOOTER_HEIGHT)
    legends.rows(page, HEADER_HEIGHT + 0.25, [_entry(part, i, k) for i, k in enumerate(kinds)])
    across = Across.layers([summary.layer for summary in part.summaries], PANEL_WIDTH)
    for index, panel in enumerate(shown):
        row, column = divmod(index, 2)
        box = Box(LEFT + column * ACROSS, top + row * DOWN + HEAD, PANEL_WIDTH, PANEL_HEIGHT)
        drawn = [
            c for i, kind in enumerate(kinds) if (c := _curve(part, panel, i, kind)) is not None
        ]
        scale = curves.panel(page, box, across, drawn, may_bend=True)
        page.heading(box.left - 0.45, box.top - 0.33, "abcdefg"[index], panel.title, panel.unit)
        note = "log scale" if scale.logarithmic else scale.ticks().factor
        page.aside(box.right, box.top - 0.33, note)
    return page


def _caption(part: NeuronOverviewPart) -> Caption:
    layers = words.several(len({summary.layer for summary in part.summaries}), "layer")
    tokens, texts = words.several(part.tokens, "token"), words.several(part.texts, "text")
    section = part.section
    return Caption(
        title="Neurons · by layer",
        model=part.model,
        explains=f"{words.several(len(part.summaries), 'block')} of {layers}, "
        f"over {tokens} of {texts}",
        facts=f"dead: at no token is the magnitude > {section.active_above:g}",
        choices=f"rare: active at some tokens, but at < {100 * section.rare_below:g}% of them",
        job=captions.of_job(part.job_id),
    )


def _kind(summary: BlockSummary) -> Kind:
    return summary.block, summary.mixer


def _entry(part: NeuronOverviewPart, index: int, kind: Kind) -> Entry:
    block, mixer = kind
    of_kind = [summary for summary in part.summaries if _kind(summary) == kind]
    sizes = sorted({summary.num_neurons for summary in of_kind})
    fewest = "" if len(sizes) == 1 else f"{sizes[0]} to "
    label = blocks.NAMES[block] + ("" if mixer is None else f" ({mixer})")
    layers = words.several(len(of_kind), "layer")
    return Entry(
        KINDS[index % len(KINDS)],
        label,
        f"{layers}, {fewest}{words.several(sizes[-1], 'neuron')} each",
    )


def _curve(part: NeuronOverviewPart, panel: Panel, index: int, kind: Kind) -> Curve | None:
    """A kind's line; None where it lacks the quantity."""
    found = [(s.layer, panel.value(s)) for s in part.summaries if _kind(s) == kind]
    known = sorted((layer, value) for layer, value in found if value is not None)
    if not known:
        return None
    x, values = np.array(known, dtype=np.float64).T
    return Curve(KINDS[index % len(KINDS)], x, values)
