"""The neurons of a job's models against each other, each beside its baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.names import Block
from workers.figures import captions, legends, style, words
from workers.figures.blocks import COLOURS, NAMES
from workers.figures.captions import Caption
from workers.figures.colours import Floats, ink_on
from workers.figures.curves import LABEL_PITCH
from workers.figures.frame import Frame
from workers.figures.legends import Entry
from workers.figures.marks import Box, Picture, lines
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import CorrelatedBlock, CorrelatedPair, UniversalityPart
from workers.figures.scale import NICE_STEPS, Scale

# Pairs of models that a page shows layer by layer; of more, the most alike.
MOST_PAIRS = 4
# Lengths in inches.
LEFT, ACROSS, PANEL_WIDTH = 0.75, 4.15, 3.15
MATRIX_HEAD, CELL_WIDTH, CELL_HEIGHT, NAME_ROOM = 0.75, 0.52, 0.26, 3.1
PAIR_HEAD, UPPER, BETWEEN, LOWER, PAIR_FOOT = 0.78, 1.2, 0.3, 0.5, 0.5
DROP = 0.037
# Of the room of a block: its baseline and itself; more of it where there is little. In points.
BASELINE_SHARE, FOUND_SHARE, NARROW_SHARE, NARROW, WIDEST = 0.86, 0.5, 0.8, 8.0, 20.0
# Of lines, in points and as a share of a block's room.
LINE, LINE_SHARE = 0.9, 0.14
LOWEST_BOX = 2.5
BASELINE, BASELINE_MEDIAN = "#d9dde2", "#8b95a0"


def universal(part: UniversalityPart) -> Page:
    """A cell for each pair of models; of the most alike, every block's correlations by layer."""
    models = list(dict.fromkeys(name for pair in part.pairs for name in pair.models))
    couples = _couples(part.pairs)
    shown = sorted(couples, key=_alike, reverse=True)[:MOST_PAIRS]
    top = HEADER_HEIGHT + MATRIX_HEAD + CELL_HEIGHT * len(models) + 0.12
    pitch = PAIR_HEAD + UPPER + BETWEEN + LOWER + PAIR_FOOT
    page = Page(
        _caption(part, len(models), len(shown), len(couples)),
        height=top + pitch * len(shown) + 0.1 + FOOTER_HEIGHT,
    )
    _matrix(page, part.pairs, models)
    kinds = {block.block for pair in part.pairs for block in pair.blocks}
    entries = [Entry(COLOURS[kind], NAMES[kind]) for kind in Block if kind in kinds]
    entries.append(Entry(BASELINE, "baseline"))
    legends.swatches(page, page.width - style.MARGIN, HEADER_HEIGHT + 0.25, entries)
    every = [block for couple in shown for pair in couple for block in pair.blocks]
    shares = [max(block.fraction_universal, block.fraction_by_chance) for block in every]
    scale = Scale.of(np.array(shares), signed=False, may_bend=False)
    for row, couple in enumerate(shown):
        for column, pair in enumerate(couple):
            left, letter = LEFT + column * ACROSS, "bcdefghi"[2 * row + column]
            box = Box(left, top + row * pitch + PAIR_HEAD, PANEL_WIDTH, UPPER)
            whose, other = (models.index(model) + 1 for model in pair.models)
            _heading(page, box, letter, f"{whose} in {other}", pair)
            if pair.blocks:
                _pair(page, box, pair.blocks, scale)
            else:
                page.text(box.left, box.top + 0.2, "no block", style.SMALL, style.SOFT_INK)
    return page


def _couples(pairs: Sequence[CorrelatedPair]) -> list[list[CorrelatedPair]]:
    """Both directions of each two models together."""
    found: dict[tuple[str, ...], list[CorrelatedPair]] = {}
    for pair in pairs:
        found.setdefault(tuple(sorted(pair.models)), []).append(pair)
    return list(found.values())


def _alike(couple: Sequence[CorrelatedPair]) -> float:
    return max(pair.fraction_universal for pair in couple)


def _caption(part: UniversalityPart, models: int, shown: int, couples: int) -> Caption:
    which = f"{words.several(models, 'model')} against each other"
    if shown < couples:
        which += f"; layer by layer the {shown} most alike of {couples} pairs"
    tokens = [pair.tokens for pair in part.pairs]
    span = words.several(max(tokens), "token") if tokens else "no token"
    if tokens and min(tokens) < max(tokens):
        span = f"{min(tokens)} to {span}"
    return Caption(
        title="Universality of neurons",
        model=words.several(models, "model"),
        explains=which,
        facts=f"over {span} that end at the same character  ·  universal: above its baseline by "
        f"> {part.threshold:g}",
        choices="Pearson correlation; baseline: the other model's neurons rotated at random, or "
        "its tokens shuffled; box: middle half, line: 5 to 95%",
        job=captions.of_job(part.job_id),
    )


def _matrix(page: Page, pairs: Sequence[CorrelatedPair], models: Sequence[str]) -> None:
    """Rows: whose neurons; columns: in whose they are found."""
    top = HEADER_HEIGHT + MATRIX_HEAD
    note = "% of the neurons of a row's model that a column's model has"
    page.heading(style.MARGIN, HEADER_HEIGHT + 0.25, "a", "Universal neurons", note)
    found = {pair.models: pair.fraction_universal for pair in pairs}
    scale = Scale.of(np.array([*found.values(), 0.0]), signed=False, may_bend=False)
    names = [words.readable(model, NAME_ROOM, style.SMALL) for model in models]
    number = style.MARGIN + 0.3
    left = number + 0.1 + max(words.width(name, style.SMALL) for name in names) + 0.2
    for row, (model, name) in enumerate(zip(models, names, strict=True)):
        base = top + (row + 0.5) * CELL_HEIGHT + DROP
        page.text(number, base, str(row + 1), style.SMALL, style.SOFT_INK, align="right")
        page.text(number + 0.1, base, name, style.SMALL)
        middle = left + (row + 0.5) * CELL_WIDTH
        page.text(middle, top - 0.06, str(row + 1), style.SMALL, style.SOFT_INK, align="center")
        for column, other in enumerate(models):
            if (model, other) in found:
                x, y = left + column * CELL_WIDTH, top + row * CELL_HEIGHT
                box = Box(x + 0.015, y + 0.015, CELL_WIDTH - 0.03, CELL_HEIGHT - 0.03)
                _cell(page, box, found[model, other], scale)


def _cell(page: Page, box: Box, share: float, scale: Scale) -> None:
    colour = scale.colours(np.array([share]))
    page.add(Picture(box, colour[None]))
    base = box.top + box.height / 2 + DROP
    shown, ink = f"{100 * share:.1f}", ink_on(colour[0])
    page.text(box.left + box.width / 2, base, shown, style.SMALL, ink, align="center")


def _heading(page: Page, box: Box, letter: str, title: str, pair: CorrelatedPair) -> None:
    room = box.width + 0.2 - words.width(" in ", style.SMALL)
    names = [words.readable(model, room / 2, style.SMALL) for model in pair.models]
    page.heading(box.left - 0.45, box.top - 0.45, letter, title, " in ".join(names))


@dataclass(frozen=True)
class Columns:
    """Where the blocks stand: layers at even steps, those of one layer side by side.

    room: of a block, in points. baseline, found: half their widths, in steps.
    """

    layers: list[int]
    kinds: list[Block]
    room: float
    baseline: float
    found: float

    @classmethod
    def of(cls, blocks: Sequence[CorrelatedBlock], inches: float) -> "Columns":
        """As wide as there is room for."""
        layers = sorted({block.layer for block in blocks})
        kinds = [kind for kind in Block if any(block.block is kind for block in blocks)]
        step = inches * style.POINTS_PER_INCH / len(layers)
        room = min(0.9 * step / len(kinds), WIDEST)
        share = FOUND_SHARE if room >= NARROW else NARROW_SHARE
        each = room / step
        return cls(layers, kinds, room, BASELINE_SHARE * each / 2, share * each / 2)

    @property
    def ends(self) -> tuple[float, float]:
        """The left and right edge of a panel."""
        return -0.5, len(self.layers) - 0.5

    def places(self, blocks: Sequence[CorrelatedBlock]) -> Floats:
        """(n,) in steps."""
        each = 2 * self.baseline / BASELINE_SHARE
        aside = [self.kinds.index(block.block) - (len(self.kinds) - 1) / 2 for block in blocks]
        return np.array([self.layers.index(b.layer) for b in blocks]) + each * np.array(aside)

    @property
    def line(self) -> float:
        """Points of a line."""
        return min(LINE, LINE_SHARE * self.room)


def _pair(page: Page, box: Box, blocks: Sequence[CorrelatedBlock], scale: Scale) -> None:
    """The largest correlations above, the shares of universal neurons below."""
    columns = Columns.of(blocks, box.width)
    frame = _correlations(page, box, blocks, columns)
    known = [block for block in blocks if block.found is not None]
    if not known:
        page.text(box.left + 0.1, box.top + 0.2, "no neuron varies", style.SMALL, style.SOFT_INK)
    _baselines(frame, known, columns)
    for kind in columns.kinds:
        _boxes(frame, [block for block in known if block.block is kind], columns, COLOURS[kind])
    frame.level([0.0], style.RULE, 0.8)
    below = Box(box.left, box.bottom + BETWEEN, box.width, LOWER)
    page.text(box.left, below.top - 0.04, "universal neurons", style.SMALL, style.SOFT_INK)
    _shares(page, below, blocks, columns, scale)


def _correlations(
    page: Page, box: Box, blocks: Sequence[CorrelatedBlock], columns: Columns
) -> Frame:
    """The frame for correlations, all of the blocks' between its edges, and its ticks."""
    bounds = [bound for block in blocks for bound in (block.found or []) + (block.baseline or [])]
    low, high = min([0.0, *bounds]), max([1.0, *bounds])
    frame = page.frame(box, columns.ends, (1.05 * low, 1.05 * high))
    ticks = [tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if low <= tick <= high]
    frame.level(ticks, style.GRID, 0.6)
    frame.ticks("left", ticks, [words.signed_number(f"{tick:g}") for tick in ticks])
    page.text(box.left, box.top - 0.04, "largest correlation", style.SMALL, style.SOFT_INK)
    return frame


def _baselines(frame: Frame, blocks: Sequence[CorrelatedBlock], columns: Columns) -> None:
    """Nine tenths of each baseline, and its median."""
    found = [(block, block.baseline) for block in blocks if block.baseline is not None]
    if not found:
        return
    x = columns.places([block for block, _ in found])
    low, _, median, _, high = np.array([quantiles for _, quantiles in found]).T
    left, right = x - columns.baseline, x + columns.baseline
    frame.boxes((left, right), (low, high), BASELINE)
    ends = frame.points(left, median), frame.points(right, median)
    frame.marks.append(lines(*ends, BASELINE_MEDIAN, LINE))


def _boxes(frame: Frame, blocks: Sequence[CorrelatedBlock], columns: Columns, colour: str) -> None:
    """Of each block the median in white, the middle half as a box, nine tenths as a line."""
    if not blocks:
        return
    x = columns.places(blocks)
    low, first, median, third, high = np.array([block.found for block in blocks]).T
    left, right = x - columns.found, x + columns.found
    whiskers = frame.points(x, low), frame.points(x, high)
    frame.marks.append(lines(*whiskers, colour, columns.line, snap=False))
    frame.boxes((left, right), (first, third), colour)
    # A box that is too low to be seen, or to have a line within, is the line itself.
    starts, ends = frame.points(left, median), frame.points(right, median)
    high_enough = (frame.down(first) - frame.down(third)) * style.POINTS_PER_INCH > LOWEST_BOX
    for shown, ink, width in ((high_enough, "#ffffff", LINE), (~high_enough, colour, LOWEST_BOX)):
        frame.marks.append(lines(starts[shown], ends[shown], ink, width))


def _shares(
    page: Page, box: Box, blocks: Sequence[CorrelatedBlock], columns: Columns, scale: Scale
) -> None:
    frame = page.frame(box, columns.ends, (0.0, 1.1))
    ticks = scale.ticks(1)
    frame.level(ticks.places, style.GRID, 0.6)
    percent = [100 * scale.limit * place for place in ticks.places]
    frame.ticks("left", ticks.places, [f"{share:.3g}%" for share in percent])
    for kind in columns.kinds:
        of_kind = [block for block in blocks if block.block is kind]
        x = columns.places(of_kind)
        chance = scale.place(np.array([block.fraction_by_chance for block in of_kind]))
        frame.boxes((x - columns.baseline, x + columns.baseline), (0.0, chance), BASELINE)
        shares = scale.place(np.array([block.fraction_universal for block in of_kind]))
        frame.boxes((x - columns.found, x + columns.found), (0.0, shares), COLOURS[kind])
    frame.level([0.0], style.RULE, 0.8)
    room = box.width * style.POINTS_PER_INCH / len(columns.layers)
    step = next(s for s in NICE_STEPS if s * room >= LABEL_PITCH)
    at = range(0, len(columns.layers), step)
    frame.ticks("bottom", at, [str(columns.layers[index]) for index in at])
    page.axis_title(box, "layer")
