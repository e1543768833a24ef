"""The panels of a sheet: neurons, token-to-token matrix, bars over tokens, ranking."""

from collections.abc import Sequence

import numpy as np

from schemas.result import Heatmap, RankedNeuron, Token
from workers.figures import style, words
from workers.figures.colours import Floats
from workers.figures.frame import THINNEST_BAR, Frame
from workers.figures.labels import TokenAxis
from workers.figures.marks import Box, Picture
from workers.figures.page import Page
from workers.figures.scale import NICE_STEPS, Scale

# In points: of tokens there are fewer than of neurons.
THINNEST_TOKEN_BAR = 0.8
RANK_SHARE = 0.62
NAMED_NEURONS = 3
FACET_GAP = 0.3
FEWEST_RANKS = 8
# The ground of a matrix where a query does not see a key.
VOID = (0xEC, 0xEC, 0xEC)


def scale_note(scale: Scale) -> str:
    """What a reader must know to read a panel's ticks; empty where they say it all."""
    if scale.limit == 0.0:
        return "all zero"
    return "log scale" if scale.logarithmic else scale.ticks().factor


def _reach(scale: Scale, places: Floats) -> tuple[float, float]:
    """The lower and upper edge of a panel of bars: limits around the data, and 0."""
    low, high = min(float(places.min()), 0.0), max(float(places.max()), 0.0)
    if low == high:
        low, high = (-1.0, 1.0) if scale.signed else (0.0, 1.0)
    reach = high - low
    return low - (0.1 * reach if low < 0 else 0.0), high + (0.12 * reach if high > 0 else 0)


def over(
    page: Page,
    box: Box,
    scale: Scale,
    places: Floats,
    colours: Sequence[str],
    thinnest: float = THINNEST_BAR,
) -> Frame:
    """A panel of upright bars: ticks and a light grid inside the limits, a line at 0."""
    low, high = _reach(scale, places)
    frame = page.frame(box, (-0.5, len(places) - 0.5), (low, high))
    ticks = scale.ticks(2 if low < 0 < high else 3).within(low, high)
    frame.level(ticks.places, style.GRID, 0.6)
    frame.bars(places, colours, thinnest)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", ticks.places, ticks.labels)
    return frame


def neurons(page: Page, box: Box, values: Floats, top: Sequence[RankedNeuron]) -> str:
    """A bar for every neuron, the first few of `top` named. Returns the scale's note."""
    scale = Scale.of(values)
    places = scale.place(values)
    frame = over(page, box, scale, places, [style.PLAIN])
    step = next(s for s in NICE_STEPS if (len(values) - 1) / s <= 6)
    at = range(0, len(values), step)
    frame.ticks("bottom", list(at), [str(i) for i in at])
    _name_neurons(page, frame, places, top[:NAMED_NEURONS])
    return scale_note(scale)


def _name_neurons(page: Page, frame: Frame, places: Floats, top: Sequence[RankedNeuron]) -> None:
    """Dots with numbers on the given neurons, where a number does not touch another."""
    taken: list[tuple[float, float, bool]] = []
    for ranked in top:
        index, place = ranked.neuron, float(places[ranked.neuron])
        half = 0.5 * words.width(str(index), style.SMALL) / frame.box.width * len(places)
        centre = float(np.clip(index, half - 0.5, len(places) - 0.5 - half))
        margin = 0.01 * len(places)
        touches = any(
            abs(centre - other) < half + reach + margin and above == (place > 0)
            for other, reach, above in taken
        )
        if place == 0.0 or touches:
            continue
        taken.append((centre, half, place > 0))
        frame.dot(index, place, 4.0, style.INK)
        [(x, y)] = frame.points(centre, place)
        y += (-5 if place > 0 else 5 + style.CAPITALS * style.SMALL) * style.POINT
        page.text(x, y, str(index), style.SMALL, align="center")


def matrix(page: Page, box: Box, heatmap: Heatmap, tokens: Sequence[Token], target: int) -> str:
    """The token-to-token matrix: rows read columns. Returns the scale's note."""
    columns = max(len(row) for row in heatmap.rows)
    grid = np.full((len(heatmap.rows), columns), np.nan)
    for index, row in enumerate(heatmap.rows):
        grid[index, : len(row)] = row
    scale = Scale.of(grid)
    alpha = np.where(np.isnan(grid), 0, 255).astype(np.uint8)
    page.add(Picture(box, np.array([[VOID]], np.uint8)))
    frame = page.frame(box, (-0.5, columns - 0.5), (len(grid) - 0.5, -0.5))
    frame.picture(np.dstack([scale.colours(grid), alpha]))
    stride = heatmap.stride
    TokenAxis.of("y", box.height, tokens, heatmap.queries, stride, target).draw(frame)
    keys = range(0, columns * stride, stride)
    TokenAxis.of("x", box.width, tokens, keys, stride).draw(frame)
    if scale.limit:
        page.colour_bar(scale, box.left + box.width + 0.1, box.top, box.height)
    return scale_note(scale) if scale.logarithmic or not scale.limit else ""


def over_tokens(
    page: Page, box: Box, scale: Scale, values: Floats, along: TokenAxis, labelled: bool
) -> None:
    """Bars over the tokens of one query position, in two colours when the scale is signed."""
    colours = [style.POSITIVE, style.NEGATIVE] if scale.signed else [style.PLAIN]
    frame = over(page, box, scale, scale.place(values), colours, THINNEST_TOKEN_BAR)
    if labelled:
        along.draw(frame)


def ranking(page: Page, box: Box, ranked: Sequence[RankedNeuron]) -> None:
    """Horizontal bars in the order given: importance at the left, activation at the right."""
    half = (box.width - FACET_GAP) / 2
    left = Box(box.left, box.top, half, box.height)
    right = Box(box.left + half + FACET_GAP, box.top, half, box.height)
    importance = [neuron.importance for neuron in ranked if neuron.importance is not None]
    activation = [neuron.activation for neuron in ranked]
    facets = [(left, "importance", importance, None), (right, "activation", activation, True)]
    if len(importance) < len(ranked):
        facets = [(box, "activation", activation, True)]
    for index, (place, name, numbers, signed) in enumerate(facets):
        values = np.array(numbers)
        scale = Scale.of(values, signed, may_bend=False)
        frame = level_bars(page, place, name, values, scale)
        if index == 0:
            frame.ticks("left", range(len(ranked)), [str(neuron.neuron) for neuron in ranked])


def row_bars(page: Page, box: Box, scale: Scale, values: Floats, share: float = 0.54) -> None:
    """A level bar from 0 in each of the even rows of a table, `share` of it high."""
    frame = page.frame(box, (scale.lowest, 1.0), (len(values) - 0.5, -0.5))
    _from_zero(frame, scale, scale.place(values), share / 2)


def _from_zero(frame: Frame, scale: Scale, places: Floats, half: float) -> None:
    """Level bars at 0, 1, 2, ..., in two colours where the scale is signed, and the line at 0."""
    for mask, colour in (
        (places > 0, style.POSITIVE if scale.signed else style.PLAIN),
        (places <= 0, style.NEGATIVE if scale.signed else style.PLAIN),
    ):
        index = np.flatnonzero(mask)
        frame.boxes((0.0, places[index]), (index - half, index + half), colour)
    frame.upright([0.0], style.RULE, 0.8)


def level_bars(page: Page, box: Box, name: str, values: Floats, scale: Scale) -> Frame:
    """Horizontal bars from 0, the first at the top, their ticks and the axis's name below."""
    places = scale.place(values)
    low = -1.0 if places.min() < 0 else 0.0
    high = 1.0 if places.max() > 0 or low == 0.0 else 0.0
    rows = max(len(values), FEWEST_RANKS)
    frame = page.frame(box, (low * 1.06, high * 1.06), (rows - 0.5, -0.5))
    ticks = scale.ticks(1 if low < 0 < high else 2).within(low, high)
    frame.upright(ticks.places, style.GRID, 0.6)
    _from_zero(frame, scale, places, RANK_SHARE / 2)
    frame.ticks("bottom", ticks.places, ticks.labels)
    page.axis_title(box, f"{name} ({ticks.factor})" if ticks.factor else name)
    return frame
