"""How many neurons two facts share, for every pair of facts."""

import numpy as np

from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from workers.figures import style, words
from workers.figures.colours import Floats, Rgb, ink_on
from workers.figures.marks import Box, Picture
from workers.figures.page import Page
from workers.figures.panels import VOID
from workers.figures.scale import NICE_STEPS, Scale

# Lengths in inches: of a cell, of one that has its number, and down to the number's baseline.
WIDEST, NUMBERED, DROP = 0.42, 0.3, 0.037
# Points between two labels.
LABEL_PITCH = 20


def overlap(page: Page, knowledge: KnowledgeNeuronAnalysis, box: Box) -> None:
    """A cell for each pair of facts: the neurons of both, over those of either."""
    found = knowledge.facts
    page.heading(
        box.left - 0.45,
        box.top - 0.39,
        "c",
        "Shared by facts",
        "neurons of both, over those of either",
    )
    if len(found) < 2:
        page.text(box.left, box.top + 0.2, "one fact only", style.SMALL, style.SOFT_INK)
        return
    place = {fact.fact: index for index, fact in enumerate(found)}
    grid = np.full((len(found), len(found)), np.nan)
    for overlap in knowledge.overlaps:
        one, other = sorted(place[fact] for fact in overlap.facts)
        grid[other, one] = np.nan if overlap.jaccard is None else overlap.jaccard
    grid = grid[1:, :-1]
    scale = Scale.of(grid, signed=False, may_bend=False)
    colours = scale.colours(grid)
    colours[np.isnan(grid)] = VOID
    below = np.where(np.tri(len(grid), dtype=bool), 255, 0).astype(np.uint8)
    width = min(box.width / len(grid), WIDEST)
    box = Box(box.left, box.top, width * len(grid), width * len(grid))
    page.add(Picture(box, np.dstack([colours, below])))
    frame = page.frame(box, (-0.5, len(grid) - 0.5), (len(grid) - 0.5, -0.5))
    step = next(s for s in NICE_STEPS if s * width * style.POINTS_PER_INCH >= LABEL_PITCH)
    at = range(step - 1, len(grid), step)
    frame.ticks("left", at, [str(found[index + 1].fact) for index in at])
    at = range(0, len(grid), step)
    frame.ticks("bottom", at, [str(found[index].fact) for index in at])
    page.axis_title(box, "fact")
    page.level_bar(scale, page.width - style.MARGIN - 0.85, box.top - 0.47, 0.85)
    if width >= NUMBERED:
        _numbers(page, box, grid, colours)


def _numbers(page: Page, box: Box, grid: Floats, colours: Rgb) -> None:
    side = box.width / len(grid)
    for row, column in np.argwhere(np.tri(len(grid), dtype=bool)).tolist():
        x, base = box.left + (column + 0.5) * side, box.top + (row + 0.5) * side + DROP
        value = grid[row, column]
        shown = words.NO_NUMBER if np.isnan(value) else f"{value:.2f}"
        page.text(x, base, shown, style.SMALL, ink_on(colours[row, column]), align="center")
