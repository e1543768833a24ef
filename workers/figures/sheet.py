"""The 2x2 sheet of one layer under one method."""

# ruff: noqa: RUF001 (a true multiplication sign is typeset on purpose)

import numpy as np

from schemas.names import Method
from schemas.result import MethodAttention, NeuronSummary, TextResult
from workers.figures import captions, panels, style
from workers.figures.labels import TokenAxis
from workers.figures.marks import Box
from workers.figures.page import LETTER_WIDTH, Page
from workers.figures.parts import TextPart
from workers.figures.scale import Scale
from workers.figures.series import relevances

# Lengths in inches.
LEFT, RIGHT = 1.05, 5.22
NEURON_WIDTH, NEURON_HEIGHT = 2.9, 1.55
UPPER, LOWER = 1.45, 3.92
MATRIX_SIZE = 3.0
HEIGHT = 8.4
NOTE_ROOM = 0.33
ROW_GAP = 0.62
NO_IMPORTANCE = 'needs the rows of every position: ask for attention.rows "all"'
# Neurons in the ranking.
RANKED = 12


def sheet(part: TextPart, layer: int, method: Method) -> Page:
    """Activation and importance of every neuron, the matrix over tokens, the top neurons.

    Raises KeyError: the text was not analysed by `method` at `layer`.
    """
    result = part.result
    analysed = result.attention_analysis[layer]
    attention = analysed.methods[method]
    name = captions.METHODS[method]
    page = Page(
        captions.caption(
            part,
            [method],
            f"{name.title} · layer {layer}",
            [f"{analysed.mixer} mixer", captions.rebuilt(analysed.reconstruction_error)],
            captions.parameters(attention),
        ),
        HEIGHT,
    )
    _neurons(page, attention, name)
    if len(attention.heatmap.queries) > 1:
        _matrix(page, result, attention, name)
    else:
        _row(page, result, attention, method)
    _ranking(page, attention.neurons)
    return page


def _neurons(page: Page, attention: MethodAttention, name: captions.MethodWords) -> None:
    facts = attention.neurons
    for left, letter, title, unit, numbers, top in (
        (
            LEFT,
            "a",
            "Neuron activation",
            name.activation,
            facts.activation,
            facts.top_by_activation,
        ),
        (
            RIGHT,
            "b",
            "Neuron importance",
            name.importance,
            facts.importance,
            facts.top_by_importance,
        ),
    ):
        page.heading(left, UPPER - NOTE_ROOM, letter, title, unit)
        if numbers is None or top is None:
            page.text(left, UPPER + 0.2, NO_IMPORTANCE, style.SMALL, style.SOFT_INK)
            continue
        values = np.array(numbers, dtype=np.float64)
        box = Box(left, UPPER, NEURON_WIDTH, NEURON_HEIGHT)
        note = panels.neurons(page, box, values, top)
        page.aside(left + NEURON_WIDTH, UPPER - NOTE_ROOM, note)
        page.axis_title(box, "neuron")


def _ranking(page: Page, facts: NeuronSummary) -> None:
    """The most important neurons; the most active ones where importance was not computed."""
    top, order = facts.top_by_importance, "important"
    if top is None:
        top, order = facts.top_by_activation, "active"
    shown = top[:RANKED]
    note = f"{len(shown)} most {order} of {facts.num_neurons}"
    page.heading(RIGHT, LOWER - NOTE_ROOM, "d", "Top neurons", note)
    panels.ranking(page, Box(RIGHT, LOWER, NEURON_WIDTH, MATRIX_SIZE), shown)


def _matrix(
    page: Page, result: TextResult, attention: MethodAttention, name: captions.MethodWords
) -> None:
    heatmap = attention.heatmap
    page.heading(LEFT, LOWER - NOTE_ROOM, "c", "Token to token", name.matrix)
    box = Box(LEFT, LOWER, MATRIX_SIZE, MATRIX_SIZE)
    note = panels.matrix(page, box, heatmap, result.tokens, result.target.position)
    stride = heatmap.stride
    pooled = f"max of {stride} × {stride}" if stride > 1 else ""
    both = ", ".join(part for part in (pooled, note) if part)
    page.aside(LEFT + MATRIX_SIZE, LOWER - NOTE_ROOM, both)


def _row(page: Page, result: TextResult, attention: MethodAttention, method: Method) -> None:
    """The target position's row only, as bars; below it the signed effect, if there is one."""
    series = relevances(method, [attention])
    height = (MATRIX_SIZE - ROW_GAP * (len(series) - 1)) / len(series)
    for index, shown in enumerate(series):
        top = LOWER + index * (height + ROW_GAP)
        box = Box(LEFT, top, NEURON_WIDTH, height)
        [values], stride = shown.thinned
        scale = Scale.of(values, shown.signed, may_bend=False)
        along = TokenAxis.of(
            "x",
            box.width,
            result.tokens,
            range(0, len(values) * stride, stride),
            stride,
            result.target.position,
        )
        panels.over_tokens(page, box, scale, values, along, labelled=index == len(series) - 1)
        letter, indent = ("", LETTER_WIDTH) if index else ("c", 0.0)
        page.heading(LEFT + indent, top - NOTE_ROOM, letter, shown.title, shown.unit)
        pooled = f"max of {stride} tokens" if stride > 1 else ""
        both = ", ".join(note for note in (pooled, panels.scale_note(scale)) if note)
        page.aside(LEFT + NEURON_WIDTH, top - NOTE_ROOM, both)
