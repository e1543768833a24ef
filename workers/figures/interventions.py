"""What interventions on neurons change, beside as many neurons drawn at random."""

# ruff: noqa: RUF001 (a true multiplication sign is typeset on purpose)

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.interval import Interval
from schemas.names import Intervening
from schemas.perturbation import Effect, Perturbed, PerturbedSet, RandomEffect
from schemas.sections import Intervention
from workers.figures import blocks, captions, style, words
from workers.figures.captions import Caption
from workers.figures.frame import Frame
from workers.figures.marks import Box, dots, lines, rectangles
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import PerturbationPart
from workers.figures.scale import Scale

# Conditions that a page shows; of more, those that change the target's probability most.
MOST_ROWS = 24
# Lengths in inches.
HEAD, FOOT, LEGEND, ROW = 0.6, 0.58, 0.45, 0.24
SETS, SET_ROOM, INTERVENED, INTERVENED_ROOM = style.MARGIN, 1.72, 2.1, 0.85
FACETS = (3.0, 4.72, 6.44)
FACET_WIDTH = 1.45
DROP = 0.037
# Of a row: where the effect's bar and the random sets' interval lie, and the bar's height.
EFFECT, RANDOM, BAR = -0.14, 0.2, 0.36
RANDOM_INK = "#000000"


@dataclass(frozen=True)
class Facet:
    """A quantity of an effect, and of the random sets' effects."""

    field: str
    title: str
    signed: bool

    def of(self, effect: Effect) -> float:
        """The effect's own number."""
        value: float = getattr(effect, self.field)
        return value

    def random(self, effect: RandomEffect) -> Interval:
        """The random sets'."""
        interval: Interval = getattr(effect, self.field)
        return interval


QUANTITIES = (
    Facet("probability", "change of the probability", True),
    Facet("logit", "change of the logit", True),
    Facet("divergence", "KL divergence, nats", False),
)


@dataclass(frozen=True)
class Row:
    """One condition on one kind of texts."""

    chosen: str
    intervened: str
    effect: Effect
    random: RandomEffect | None
    more_extreme: float | None


def interventions(part: PerturbationPart) -> Page:
    """A row for each set and intervention; below, the same rows on the control texts."""
    shown = _shown(part.perturbation.results)
    target = [_row(part, result, control=False) for result in shown]
    control = [_row(part, result, control=True) for result in shown if result.control is not None]
    groups = [target, control] if control else [target]
    heights = [HEAD + ROW * len(rows) + FOOT for rows in groups]
    top = HEADER_HEIGHT + LEGEND
    page = Page(_caption(part, len(shown)), height=top + sum(heights) + FOOTER_HEIGHT)
    if not shown:
        page.text(style.MARGIN, top, "nothing was intervened on", style.SMALL, style.SOFT_INK)
        return page
    _legend(page, shown[0].random_sets)
    everything = [*target, *control]
    axes = [_axis(facet, everything) for facet in QUANTITIES]
    titles = (("a", "Target", _target(part)), ("b", "Control texts", _control(part)))
    for rows, height, (letter, title, note) in zip(groups, heights, titles, strict=False):
        page.heading(style.MARGIN, top + 0.1, letter, title, note)
        _group(page, top + HEAD, rows, axes)
        top += height
    return page


def _shown(results: Sequence[Perturbed]) -> list[Perturbed]:
    """Those of the largest change of the probability, in their own order."""
    order = sorted(range(len(results)), key=lambda i: -abs(results[i].effect.probability))
    return [results[index] for index in sorted(order[:MOST_ROWS])]


def _caption(part: PerturbationPart, shown: int) -> Caption:
    found = part.perturbation
    total = len(found.results)
    which = words.several(total, "condition")
    if shown < total:
        which = f"{shown} of {total} conditions, those that change the target's probability most"
    return Caption(
        title="Interventions on neurons",
        model=part.model,
        explains=which,
        facts="more extreme: share of the random sets that lower the probability at least as much",
        choices="after minus before, mean over the texts; KL divergence of the next token after "
        "from before, at the target's position",
        job=captions.of_job(part.job_id),
    )


def _target(part: PerturbationPart) -> str:
    before = words.probability(part.perturbation.baseline_probability)
    return f"p {before} before, mean over {words.several(part.texts, 'text')}"


def _control(part: PerturbationPart) -> str:
    before = part.perturbation.control_probability
    p = "" if before is None else f"p {words.probability(before)} before, "
    return f"{p}mean over {words.several(part.control_texts, 'text')}; the scales are those of a"


def _row(part: PerturbationPart, result: Perturbed, control: bool) -> Row:
    sets = {shown.set_index: index for index, shown in enumerate(part.perturbation.sets)}
    index = sets[result.set_index]
    chosen = _chosen(part.perturbation.sets[index], part.sizes[index])
    if len(sets) > 1:
        chosen = f"{result.set_index}: {chosen}"
    intervened = _intervened(part.interventions[result.intervention_index])
    if control:
        assert result.control is not None
        return Row(chosen, intervened, result.control, result.random_control, None)
    return Row(chosen, intervened, result.effect, result.random, result.more_extreme)


def _chosen(shown: PerturbedSet, size: int) -> str:
    """Which neurons a set has."""
    if shown.found_by is not None:
        return f"{size} by {shown.found_by.replace('_', ' ')}"
    if size == 1:
        [neuron] = shown.neurons
        return f"layer {neuron.layer} {blocks.NAMES[neuron.block]} {neuron.neuron}"
    return f"{size} given"


def _intervened(intervention: Intervention) -> str:
    match intervention.kind:
        case Intervening.NOISE:
            return f"noise {intervention.std:g} std"
        case Intervening.SCALE:
            return words.signed_number(f"× {intervention.factor:g}")
        case kind:
            return kind.value


@dataclass(frozen=True)
class Axis:
    """A facet's scale, and the places at its left and right edge: all rows are between them."""

    scale: Scale
    ends: tuple[float, float]


def _axis(facet: Facet, rows: Sequence[Row]) -> Axis:
    values = [facet.of(row.effect) for row in rows]
    for row in rows:
        if row.random is not None:
            interval = facet.random(row.random)
            values += [interval.low, interval.high]
    found = np.array([*values, 0.0])
    scale = Scale.of(found, may_bend=False)
    places = scale.place(found)
    low, high = float(places.min()), float(places.max())
    return Axis(scale, (1.05 * low, 1.05 * high if high > low else 1.0))


def _legend(page: Page, random_sets: int) -> None:
    y = HEADER_HEIGHT + 0.23
    x = style.MARGIN
    for colour in (style.NEGATIVE, style.POSITIVE):
        page.add(rectangles(np.array([[x, y - 0.085, x + 0.16, y + 0.01]]), colour))
        x += 0.16
    page.text(x + 0.08, y, "these neurons: less, more", style.SMALL)
    x += 2.0
    ends = np.array([[x, y - 0.04], [x + 0.32, y - 0.04]])
    page.add(lines(ends[:1], ends[1:], RANDOM_INK, 0.9))
    page.add(dots(ends.mean(axis=0, keepdims=True), 3.6, RANDOM_INK))
    note = f"as many at random: mean of {random_sets} sets and its 95% interval"
    page.text(x + 0.4, y, note, style.SMALL)


def _group(page: Page, top: float, rows: Sequence[Row], axes: Sequence[Axis]) -> None:
    page.text(SETS, top - 0.06, "neurons", style.SMALL, style.SOFT_INK)
    page.text(INTERVENED, top - 0.06, "intervention", style.SMALL, style.SOFT_INK)
    if rows[0].more_extreme is not None:
        page.aside(page.width - style.MARGIN, top - 0.06, "more extreme")
    for index, row in enumerate(rows):
        base = top + (index + 0.5) * ROW + DROP
        page.text(SETS, base, words.readable(row.chosen, SET_ROOM, style.SMALL), style.SMALL)
        intervened = words.readable(row.intervened, INTERVENED_ROOM, style.SMALL)
        page.text(INTERVENED, base, intervened, style.SMALL)
        if row.more_extreme is not None:
            share = f"{100 * row.more_extreme:.0f}%"
            page.text(page.width - style.MARGIN, base, share, style.SMALL, align="right")
    for facet, left, axis in zip(QUANTITIES, FACETS, axes, strict=True):
        box = Box(left, top, FACET_WIDTH, ROW * len(rows))
        _facet(page, box, facet, rows, axis)


def _facet(page: Page, box: Box, facet: Facet, rows: Sequence[Row], axis: Axis) -> None:
    scale, (low, high) = axis.scale, axis.ends
    frame = page.frame(box, axis.ends, (len(rows) - 0.5, -0.5))
    ticks = scale.ticks(1 if -0.5 < low < 0 or 0 < high < 0.5 else 2).within(low, high)
    frame.upright(ticks.places, style.GRID, 0.6)
    places = scale.place(np.array([facet.of(row.effect) for row in rows]))
    middle = np.arange(len(rows)) + EFFECT
    for mask, colour in (
        (places > 0, style.POSITIVE if facet.signed else style.PLAIN),
        (places < 0, style.NEGATIVE),
    ):
        at = middle[mask]
        frame.boxes((0.0, places[mask]), (at - BAR / 2, at + BAR / 2), colour)
    frame.upright([0.0], style.RULE, 0.8)
    _random(frame, facet, rows, scale)
    frame.ticks("bottom", ticks.places, ticks.labels)
    page.axis_title(box, f"{facet.title} ({ticks.factor})" if ticks.factor else facet.title)


def _random(frame: Frame, facet: Facet, rows: Sequence[Row], scale: Scale) -> None:
    """The random sets' mean with its interval, below each bar."""
    found = [
        (index + RANDOM, facet.random(row.random))
        for index, row in enumerate(rows)
        if row.random is not None
    ]
    if not found:
        return
    y = np.array([at for at, _ in found])
    low, mean, high = (
        scale.place(np.array([getattr(interval, end) for _, interval in found]))
        for end in ("low", "mean", "high")
    )
    ends = frame.points(low, y), frame.points(high, y)
    frame.marks.append(lines(*ends, RANDOM_INK, 0.9, snap=False))
    frame.marks.append(dots(frame.points(mean, y), 3.0, RANDOM_INK))
