"""The knowledge neurons of one model: facts by layers, their attributions, and what facts share."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.knowledge_neurons import FactNeurons
from schemas.names import Block
from workers.figures import captions, legends, panels, style, words
from workers.figures.blocks import COLOURS, NAMES
from workers.figures.captions import Caption
from workers.figures.colours import ink_on
from workers.figures.curves import Across
from workers.figures.legends import Entry
from workers.figures.marks import Box, Picture, dots
from workers.figures.overlap import overlap
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import KnowledgePart
from workers.figures.scale import NICE_STEPS, Scale

# Lengths in inches. The columns of the first panel: the fact's number ends, its prompt and answer
# end, its cells, and where the probability and the number of neurons end.
NUMBER, FACT, CELLS, PROBABILITY, COUNT = 0.55, 3.75, (3.9, 6.9), 7.55, 8.2
HEAD, TITLE = 0.85, 0.25
LOWEST_ROW, HIGHEST_ROW, CELL = 0.13, 0.28, 0.9
LOWER_HEAD, LOWER_HEIGHT, LOWER_FOOT = 0.95, 2.3, 0.55
DOTS, SHARED = (0.75, 3.1), (4.95, 2.3)
# The columns of the last panel: layer and block end, the neuron's number ends, its bar, its
# attribution ends, and the facts start.
PLACE, NEURON, BAR, VALUE, ANSWERS = 1.35, 1.95, (2.1, 3.3), 4.0, 4.2
TABLE_HEAD, ROW = 0.6, 0.205
STRONGEST = 8
# Points, and of a layer's room.
LARGEST_DOT, DOT_SHARE = 3.6, 0.4
# Layers by which a layer's blocks stand apart.
ASIDE = 0.4
DROP = 0.037
LONGEST_ANSWER = 1.1
ARROW, ARROW_ROOM, SPACE, GAP = "→", 0.14, 0.05, 0.16


def facts(part: KnowledgePart) -> Page:
    """Neurons of every fact in each layer, their attributions, and how many neurons facts share."""
    found = part.knowledge.facts
    row = float(np.clip(4.0 / max(1, len(found)), LOWEST_ROW, HIGHEST_ROW))
    lower = HEADER_HEIGHT + HEAD + row * len(found) + LOWER_HEAD
    strongest = _strongest(found)
    table = lower + LOWER_HEIGHT + LOWER_FOOT
    height = TABLE_HEAD + ROW * len(strongest) + 0.2 if strongest else 0.0
    page = Page(_caption(part), height=table + height + FOOTER_HEIGHT)
    top = HEADER_HEIGHT + HEAD
    note = "neurons of each fact in each layer"
    page.heading(style.MARGIN, HEADER_HEIGHT + TITLE, "a", "Facts by layers", note)
    _rows(page, part, top, row)
    _counts(page, found, Box(CELLS[0], top, CELLS[1] - CELLS[0], row * len(found)))
    _attributions(page, found, Box(DOTS[0], lower, DOTS[1], LOWER_HEIGHT))
    overlap(page, part.knowledge, Box(SHARED[0], lower, SHARED[1], SHARED[1]))
    if strongest:
        _table(page, table, strongest)
    return page


def _caption(part: KnowledgePart) -> Caption:
    found = part.knowledge.facts
    neurons = {(n.layer, n.block, n.neuron) for fact in found for n in fact.neurons}
    prompts = [prompt for fact in found for prompt in fact.prompts]
    gap = max((prompt.completeness_gap for prompt in prompts), default=0.0)
    return Caption(
        title="Knowledge neurons",
        model=part.model,
        explains=f"{words.several(len(neurons), 'neuron')} of {words.several(len(found), 'fact')}, "
        f"{words.several(len(prompts), 'prompt')} in all",
        facts=f"largest completeness gap of a prompt {words.number(gap)}",
        choices="attribution: integrated gradients of the answer's probability, mean over a fact's "
        "prompts; p: probability of the answer, mean over them",
        job=captions.of_job(part.job_id),
    )


def _layers(found: Sequence[FactNeurons]) -> list[int]:
    """Every layer that was looked at."""
    named = {layer for fact in found for layer in fact.per_layer}
    return sorted(named | {neuron.layer for fact in found for neuron in fact.neurons})


def _rows(page: Page, part: KnowledgePart, top: float, row: float) -> None:
    """The words and numbers of each fact, on either side of its cells."""
    page.aside(PROBABILITY, top - 0.06, "p")
    page.aside(COUNT, top - 0.06, "neurons")
    page.text(NUMBER + 0.1, top - 0.06, "prompt → answer", style.SMALL, style.SOFT_INK)
    for index, fact in enumerate(part.knowledge.facts):
        base = top + (index + 0.5) * row + DROP
        page.text(NUMBER, base, str(fact.fact), style.SMALL, style.SOFT_INK, align="right")
        answer = words.readable(fact.answer, LONGEST_ANSWER, style.SMALL, bold=True)
        room = FACT - NUMBER - 0.2 - ARROW_ROOM - words.width(answer, style.SMALL, bold=True)
        prompt = words.readable_end(part.facts[fact.fact].prompt, room, style.SMALL)
        page.text(NUMBER + 0.1, base, prompt, style.SMALL)
        left = NUMBER + 0.1 + words.width(prompt, style.SMALL) + 0.06
        # By itself: between words that are written from the right it would turn round.
        page.text(left, base, ARROW, style.SMALL, style.SOFT_INK)
        page.text(left + ARROW_ROOM, base, answer, style.SMALL, bold=True)
        if fact.prompts:
            mean = float(np.mean([prompt.probability for prompt in fact.prompts]))
            shown = words.probability(mean).removeprefix("= ")
            page.text(PROBABILITY, base, shown, style.SMALL, align="right")
        page.text(COUNT, base, str(len(fact.neurons)), style.SMALL, align="right")


def _counts(page: Page, found: Sequence[FactNeurons], box: Box) -> None:
    """A cell for each fact and layer; its number stands in it where there is room."""
    layers = _layers(found)
    if not layers:
        page.text(box.left, box.top + 0.1, "no layer", style.SMALL, style.SOFT_INK)
        return
    counts = np.array([[fact.per_layer.get(layer, 0) for layer in layers] for fact in found])
    scale = Scale.of(counts.astype(np.float64), may_bend=False)
    width = min(CELL, box.width / len(layers))
    box = Box(box.left, box.top, width * len(layers), box.height)
    colours = scale.colours(counts.astype(np.float64))
    page.add(Picture(box, colours))
    row = box.height / len(found)
    digits = words.width(str(counts.max()), style.SMALL)
    if digits + 0.06 <= width and row >= LOWEST_ROW:
        for (fact, layer), count in np.ndenumerate(counts):
            x, base = box.left + (layer + 0.5) * width, box.top + (fact + 0.5) * row + DROP
            ink = ink_on(colours[fact, layer])
            page.text(x, base, str(count), style.SMALL, ink, align="center")
    else:
        page.level_bar(scale, CELLS[1] - 1.1, HEADER_HEIGHT + TITLE - 0.08, 1.1)
    step = next(s for s in NICE_STEPS if s * width * style.POINTS_PER_INCH >= 16)
    for index in range(0, len(layers), step):
        x = box.left + (index + 0.5) * width
        page.text(x, box.top - 0.06, str(layers[index]), style.SMALL, align="center")
    page.aside(box.left - 0.08, box.top - 0.06, "layer")


def _attributions(page: Page, found: Sequence[FactNeurons], box: Box) -> None:
    """A dot for every neuron of every fact, mixers left of their layer, MLPs right of it."""
    page.heading(
        style.MARGIN, box.top - 0.39, "b", "Attribution", "a dot for each neuron of a fact"
    )
    neurons = [neuron for fact in found for neuron in fact.neurons]
    if not neurons:
        page.text(box.left, box.top + 0.2, "no neuron", style.SMALL, style.SOFT_INK)
        return
    across = Across.layers(_layers(found), box.width)
    values = np.array([neuron.attribution for neuron in neurons])
    scale = Scale.of(values, may_bend=False)
    low, high = 1.08 * min(float(scale.place(values).min()), 0.0), 1.08
    frame = page.frame(box, across.ends, (low, high))
    ticks = scale.ticks(2 if low < 0 else 4).within(low, high)
    frame.level(ticks.places, style.GRID, 0.6)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", ticks.places, ticks.labels)
    frame.ticks("bottom", across.places, across.labels)
    page.axis_title(box, across.title)
    blocks = [block for block in Block if any(neuron.block is block for neuron in neurons)]
    pitch = box.width * style.POINTS_PER_INCH / (across.ends[1] - across.ends[0])
    for index, block in enumerate(blocks):
        of_block = np.array([neuron.block is block for neuron in neurons])
        layers = np.array([neuron.layer for neuron in neurons], dtype=np.float64)[of_block]
        aside = ASIDE * (index - (len(blocks) - 1) / 2)
        points = frame.points(layers + aside, scale.place(values[of_block]))
        page.add(dots(points, min(LARGEST_DOT, DOT_SHARE * pitch), COLOURS[block]))
    entries = [Entry(COLOURS[block], NAMES[block]) for block in blocks]
    legends.swatches(page, box.right, box.top - 0.39, entries)
    page.aside(box.right, box.top - 0.225, ticks.factor)


Named = tuple[int, Block, int]


def _strongest(found: Sequence[FactNeurons]) -> dict[Named, list[tuple[float, FactNeurons]]]:
    """The neurons of the largest attributions, each with its facts, the strongest first."""
    named: dict[Named, list[tuple[float, FactNeurons]]] = defaultdict(list)
    for fact in found:
        for neuron in fact.neurons:
            key = (neuron.layer, neuron.block, neuron.neuron)
            named[key].append((neuron.attribution, fact))
    for facts_of in named.values():
        facts_of.sort(key=lambda pair: -pair[0])
    order = sorted(named, key=lambda key: -named[key][0][0])
    return {key: named[key] for key in order[:STRONGEST]}


def _table(
    page: Page,
    top: float,
    strongest: Mapping[Named, Sequence[tuple[float, FactNeurons]]],
) -> None:
    """A row for each neuron: its largest attribution, and the facts it is of."""
    page.heading(
        style.MARGIN, top + 0.15, "d", "Strongest neurons", "largest attribution, and whose"
    )
    base = top + TABLE_HEAD - 0.06
    page.aside(PLACE, base, "layer, block")
    page.aside(NEURON, base, "neuron")
    page.aside(VALUE, base, "attribution")
    page.text(ANSWERS, base, "facts", style.SMALL, style.SOFT_INK)
    values = np.array([facts_of[0][0] for facts_of in strongest.values()])
    scale = Scale.of(values, may_bend=False)
    box = Box(BAR[0], top + TABLE_HEAD, BAR[1] - BAR[0], ROW * len(strongest))
    panels.row_bars(page, box, scale, values)
    for index, ((layer, block, neuron), facts_of) in enumerate(strongest.items()):
        base = box.top + (index + 0.5) * ROW + DROP
        page.text(PLACE, base, f"{layer}, {NAMES[block]}", style.SMALL, align="right")
        page.text(NEURON, base, str(neuron), style.SMALL, align="right")
        page.text(VALUE, base, words.number(float(values[index])), style.SMALL, align="right")
        _answers(page, base, [fact for _, fact in facts_of])


def _answers(page: Page, base: float, found: Sequence[FactNeurons]) -> None:
    """As many facts, by number and answer, as there is room for, and how many there are more."""
    x, right = ANSWERS, page.width - style.MARGIN
    for index, fact in enumerate(found):
        rest = len(found) - index
        number = f"{fact.fact} {ARROW}"
        answer = words.readable(fact.answer, LONGEST_ANSWER, style.SMALL)
        before = words.width(number, style.SMALL) + SPACE
        width = before + words.width(answer, style.SMALL)
        more = words.width(f"and {rest - 1} more", style.SMALL) if rest > 1 else 0.0
        if x + width + GAP + more > right:
            page.text(x, base, f"and {rest} more", style.SMALL, style.SOFT_INK)
            return
        page.text(x, base, number, style.SMALL, style.SOFT_INK)
        page.text(x + before, base, answer, style.SMALL)
        x += width + GAP
