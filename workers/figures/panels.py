"""The panels of a sheet: neurons, token-to-token matrix, bars over tokens, ranking."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from schemas.result import Heatmap, RankedNeuron, Token
from workers.figures import style, words
from workers.figures.colours import Floats
from workers.figures.labels import NICE_STEPS, TokenAxis, label_axis
from workers.figures.page import Page
from workers.figures.scale import Scale

# Bars narrower than this vanish between pixels, so they keep this width and may overlap.
THINNEST_BAR = 0.5
THINNEST_TOKEN_BAR = 0.8
THICKEST_BAR = 7.0
BAR_SHARE = 0.7
NAMED_NEURONS = 3
FACET_GAP = 0.3
FEWEST_RANKS = 8


@dataclass(frozen=True)
class Box:
    """A panel's place on its page, in inches."""

    left: float
    top: float
    width: float
    height: float


def bars(
    axes: Axes,
    places: Floats,
    inches: float,
    colours: Sequence[str],
    thinnest: float = THINNEST_BAR,
) -> None:
    """Upright bars from 0, at 0, 1, 2, ..., as one path per colour (positive, negative)."""
    pitch = inches * 72 / max(len(places), 1)
    thickness = float(np.clip(pitch * BAR_SHARE, thinnest, THICKEST_BAR))
    chosen = [places > 0, places < 0] if len(colours) > 1 else [places != 0]
    for mask, colour in zip(chosen, colours, strict=True):
        index = np.flatnonzero(mask)
        vertices = np.zeros((2 * len(index), 2))
        vertices[0::2, 0] = vertices[1::2, 0] = index
        vertices[1::2, 1] = places[index]
        codes = np.tile([Path.MOVETO, Path.LINETO], len(index))
        if len(index):
            # Not add_patch: it walks the path for data limits, which are set by hand here.
            axes.add_artist(
                PathPatch(
                    Path(vertices, codes),
                    fill=False,
                    edgecolor=colour,
                    linewidth=thickness,
                    capstyle="butt",
                    snap=False,
                )
            )


def scale_note(scale: Scale) -> str:
    """What a reader must know to read a panel's ticks; empty where they say it all."""
    if scale.limit == 0.0:
        return "all zero"
    return "log scale" if scale.logarithmic else scale.ticks().factor


def value_axis(axes: Axes, scale: Scale, places: Floats) -> None:
    """The upright axis of bars: limits around the data, ticks inside them, light grid, zero."""
    low, high = min(float(places.min()), 0.0), max(float(places.max()), 0.0)
    if low == high:
        low, high = (-1.0, 1.0) if scale.signed else (0.0, 1.0)
    reach = high - low
    axes.set_ylim(low - (0.1 * reach if low < 0 else 0.0), high + (0.12 * reach if high > 0 else 0))
    ticks = Scale(scale.limit, scale.signed, scale.logarithmic).ticks(2 if low < 0 < high else 3)
    shown = [
        (place, label)
        for place, label in zip(ticks.places, ticks.labels, strict=True)
        if low - 0.05 * reach <= place <= high + 0.05 * reach
    ]
    label_axis(axes, "y", [place for place, _ in shown], [label for _, label in shown])
    for place, _ in shown:
        axes.axhline(place, color=style.GRID, linewidth=0.6, zorder=0)
    axes.axhline(0.0, color=style.RULE, linewidth=0.8, zorder=3)


def neurons(page: Page, box: Box, values: Floats, top: Sequence[RankedNeuron]) -> str:
    """A bar for every neuron, the first few of `top` named. Returns the scale's note."""
    scale = Scale.of(values)
    places = scale.place(values)
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_xlim(-0.5, len(values) - 0.5)
    bars(axes, places, box.width, [style.PLAIN])
    value_axis(axes, scale, places)
    step = next(s for s in NICE_STEPS if (len(values) - 1) / s <= 6)
    at = list(range(0, len(values), step))
    label_axis(axes, "x", [float(i) for i in at], [str(i) for i in at])
    _name_neurons(axes, places, box.width, top[:NAMED_NEURONS])
    return scale_note(scale)


def _name_neurons(axes: Axes, places: Floats, inches: float, top: Sequence[RankedNeuron]) -> None:
    """Dots with numbers on the given neurons, where a number does not touch another."""
    taken: list[tuple[float, float, bool]] = []
    for ranked in top:
        index, place = ranked.neuron, float(places[ranked.neuron])
        half = 0.5 * words.width(str(index), style.SMALL) / inches * len(places)
        centre = float(np.clip(index, half - 0.5, len(places) - 0.5 - half))
        margin = 0.01 * len(places)
        touches = any(
            abs(centre - other) < half + reach + margin and above == (place > 0)
            for other, reach, above in taken
        )
        if place == 0.0 or touches:
            continue
        taken.append((centre, half, place > 0))
        axes.plot([index], [place], "o", markersize=3.0, color=style.INK, zorder=4, clip_on=False)
        axes.annotate(
            str(index),
            (centre, place),
            (0, 4 if place >= 0 else -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if place >= 0 else "top",
            color=style.INK,
            fontproperties=style.font(style.SMALL),
            parse_math=False,
            usetex=False,
        )


def matrix(page: Page, box: Box, heatmap: Heatmap, tokens: Sequence[Token], target: int) -> str:
    """The token-to-token matrix: rows read columns. Returns the scale's note."""
    columns = max(len(row) for row in heatmap.rows)
    grid = np.full((len(heatmap.rows), columns), np.nan)
    for index, row in enumerate(heatmap.rows):
        grid[index, : len(row)] = row
    scale = Scale.of(grid)
    alpha = np.where(np.isnan(grid), 0, 255).astype(np.uint8)
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_frame_on(True)
    axes.set_facecolor(style.VOID)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.imshow(
        np.dstack([scale.colours(grid), alpha]),
        aspect="auto",
        interpolation="nearest",
        origin="upper",
    )
    stride = heatmap.stride
    TokenAxis.of("y", box.height, tokens, heatmap.queries, stride, target).draw(axes)
    keys = range(0, columns * stride, stride)
    TokenAxis.of("x", box.width, tokens, keys, stride).draw(axes)
    if scale.limit:
        page.colour_bar(scale, box.left + box.width + 0.1, box.top, box.height)
    return scale_note(scale) if scale.logarithmic or not scale.limit else ""


def over_tokens(
    page: Page, box: Box, scale: Scale, values: Floats, along: TokenAxis, labelled: bool
) -> None:
    """Bars over the tokens of one query position, in two colours when the scale is signed."""
    places = scale.place(values)
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_xlim(-0.5, len(places) - 0.5)
    colours = [style.POSITIVE, style.NEGATIVE] if scale.signed else [style.PLAIN]
    bars(axes, places, box.width, colours, THINNEST_TOKEN_BAR)
    value_axis(axes, scale, places)
    if labelled:
        along.draw(axes)


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
        axes = _facet(page, place, name, values, Scale.of(values, signed, may_bend=False))
        if index == 0:
            at = [float(i) for i in range(len(ranked))]
            label_axis(axes, "y", at, [str(neuron.neuron) for neuron in ranked])


def _facet(page: Page, box: Box, name: str, values: Floats, scale: Scale) -> Axes:
    places = scale.place(values)
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_ylim(max(len(values), FEWEST_RANKS) - 0.5, -0.5)
    low = -1.0 if places.min() < 0 else 0.0
    high = 1.0 if places.max() > 0 or low == 0.0 else 0.0
    axes.set_xlim(low * 1.06, high * 1.06)
    colours = [style.POSITIVE if value > 0 else style.NEGATIVE for value in values]
    axes.barh(
        np.arange(len(values)),
        places,
        height=0.62,
        color=colours if scale.signed else style.PLAIN,
        linewidth=0,
    )
    axes.axvline(0.0, color=style.RULE, linewidth=0.8)
    ticks = scale.ticks(1 if low < 0 < high else 2)
    shown = [
        (place, label)
        for place, label in zip(ticks.places, ticks.labels, strict=True)
        if low <= place <= high
    ]
    for place, _ in shown:
        axes.axvline(place, color=style.GRID, linewidth=0.6, zorder=0)
    label_axis(axes, "x", [place for place, _ in shown], [label for _, label in shown])
    title = f"{name} ({ticks.factor})" if ticks.factor else name
    middle, below = box.left + box.width / 2, box.top + box.height + 0.36
    page.text(middle, below, title, style.SMALL, color=style.SOFT_INK, ha="center")
    return axes
