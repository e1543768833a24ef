"""The panels of a sheet: neurons, token-to-token matrix, bars over tokens, ranking."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from schemas.result import Heatmap, RankedNeuron, Token
from workers.figures import style, words
from workers.figures.colours import Floats
from workers.figures.page import Page, label_axis
from workers.figures.scale import Scale

Integers = npt.NDArray[np.intp]
# Bars narrower than this vanish between pixels, so they keep this width and may overlap.
THINNEST_BAR = 0.5
THINNEST_TOKEN_BAR = 0.8
THICKEST_BAR = 7.0
BAR_SHARE = 0.7
NAMED_NEURONS = 3
MOST_COLUMNS = 640
LABEL_ROOM = {"x": 0.82, "y": 0.68}
NICE_STEPS = [step * 10**k for k in range(7) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Box:
    """A panel's place on its page, in inches."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Labels:
    """Tokens along an axis: place i stands for `stride` of them from positions[i] on."""

    tokens: Sequence[Token]
    positions: Sequence[int]
    stride: int = 1
    target: int = -1


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


def value_axis(page: Page, axes: Axes, box: Box, scale: Scale, places: Floats) -> None:
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
    if ticks.factor:
        page.text(
            box.left - 0.06,
            box.top - 0.03,
            ticks.factor,
            style.SMALL,
            color=style.SOFT_INK,
            ha="right",
        )


def neurons(page: Page, box: Box, values: Floats, top: Sequence[RankedNeuron]) -> None:
    """One value per neuron, all of them; the most important few are named."""
    scale = Scale.of(values)
    places = scale.place(values)
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_xlim(-0.5, len(values) - 0.5)
    bars(axes, places, box.width, [style.PLAIN])
    value_axis(page, axes, box, scale, places)
    step = next(s for s in NICE_STEPS if (len(values) - 1) / s <= 6)
    at = list(range(0, len(values), step))
    label_axis(axes, "x", [float(i) for i in at], [str(i) for i in at])
    _name_neurons(axes, places, box.width, top[:NAMED_NEURONS])


def _name_neurons(axes: Axes, places: Floats, inches: float, top: Sequence[RankedNeuron]) -> None:
    """Dots with numbers on the given neurons, where a number does not touch another."""
    taken: list[tuple[float, float]] = []
    for ranked in top:
        index, place = ranked.neuron, float(places[ranked.neuron])
        half = 0.5 * words.width(str(index), style.SMALL) / inches * len(places)
        centre = float(np.clip(index, half - 0.5, len(places) - 0.5 - half))
        if any(abs(centre - other) < half + reach + 0.01 * len(places) for other, reach in taken):
            continue
        taken.append((centre, half))
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


def matrix(page: Page, box: Box, heatmap: Heatmap, tokens: Sequence[Token], target: int) -> None:
    """The token-to-token matrix: rows read columns; above the diagonal there is nothing."""
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
    label_tokens(axes, "y", box, Labels(tokens, heatmap.queries, stride, target))
    label_tokens(axes, "x", box, Labels(tokens, [i * stride for i in range(columns)], stride))
    page.colour_bar(scale, box.left + box.width + 0.1, box.top, box.height)


def label_tokens(axes: Axes, which: str, box: Box, shown: Labels) -> None:
    """Token labels along an axis whose place i stands for `stride` tokens from positions[i] on.

    As many as fit without touching, every k-th for a round k, with their positions when some are
    left out. The target is always among them and stands out.
    """
    positions, target = shown.positions, shown.target
    inches = box.width if which == "x" else box.height
    pitch = inches * 72 / len(positions)
    # A line of type needs a fifth more than its size to stand clear of the next.
    gap = style.SMALL * 1.2 / pitch
    step = next(s for s in NICE_STEPS if s >= gap)
    strong = next((i for i, p in enumerate(positions) if 0 <= target - p < shown.stride), None)
    places = [i for i in range(0, len(positions), step) if strong is None or abs(i - strong) >= gap]
    if strong is not None:
        places = sorted([*places, strong])
    numbered = step > 1 or len(positions) != len(shown.tokens)
    labels = [
        _label(shown, target if i == strong else positions[i], numbered, i == strong, which)
        for i in places
    ]
    bold = None if strong is None else places.index(strong)
    label_axis(axes, which, [float(i) for i in places], labels, strong=bold)
    widest = max(words.width(label, style.SMALL, True) for label in labels) * 72
    if which == "x" and (step > 1 or widest + style.SMALL > pitch):
        axes.xaxis.set_tick_params(labelrotation=90)


def _label(shown: Labels, position: int, numbered: bool, bold: bool, which: str) -> str:
    prefix = f"{position} " if numbered else ""
    room = LABEL_ROOM[which] - words.width(prefix, style.SMALL, bold)
    return prefix + words.readable(shown.tokens[position].text, room, style.SMALL, bold)


def thin(values: Floats, most: int = MOST_COLUMNS) -> tuple[Floats, int]:
    """(..., l) -> (..., at most `most`) and the stride: of each block the largest in magnitude."""
    length = values.shape[-1]
    stride = -(-length // most)
    if stride == 1:
        return values, 1
    blocks = -(-length // stride)
    padded = np.zeros((*values.shape[:-1], blocks * stride))
    padded[..., :length] = values
    padded = padded.reshape(*values.shape[:-1], blocks, stride)
    largest = np.abs(padded).argmax(-1)[..., None]
    return np.take_along_axis(padded, largest, -1)[..., 0], stride


def over_tokens(
    page: Page, box: Box, values: Floats, tokens: Sequence[Token], target: int, labelled: bool
) -> None:
    """Bars over the tokens of one query position; negative ones in the other colour."""
    scale = Scale.of(values, may_bend=False)
    shown, stride = thin(scale.place(values))
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    colours = [style.POSITIVE, style.NEGATIVE] if scale.signed else [style.PLAIN]
    bars(axes, shown, box.width, colours, THINNEST_TOKEN_BAR)
    value_axis(page, axes, box, scale, shown)
    if labelled:
        positions = [i * stride for i in range(len(shown))]
        label_tokens(axes, "x", box, Labels(tokens, positions, stride, target))


def ranking(page: Page, box: Box, ranked: Sequence[RankedNeuron]) -> None:
    """Horizontal bars, most important first: importance at the left, activation at the right."""
    gap = 0.3
    half = (box.width - gap) / 2
    facets = [
        ("importance", [neuron.importance for neuron in ranked], box.left),
        ("activation", [neuron.activation for neuron in ranked], box.left + half + gap),
    ]
    for name, numbers, left in facets:
        values = np.array(numbers)
        scale = Scale.of(values, may_bend=False)
        places = scale.place(values)
        axes = page.axes(left, box.top, half, box.height)
        axes.set_ylim(max(len(ranked), 4) - 0.5, -0.5)
        low = -1.0 if scale.signed else 0.0
        axes.set_xlim(low * 1.06, 1.06)
        colours = [style.POSITIVE if v > 0 else style.NEGATIVE for v in values]
        axes.barh(
            np.arange(len(ranked)),
            places,
            height=0.62,
            color=colours if scale.signed else style.PLAIN,
            linewidth=0,
        )
        axes.axvline(0.0, color=style.RULE, linewidth=0.8)
        ticks = scale.ticks(1 if scale.signed else 2)
        for place in ticks.places:
            axes.axvline(place, color=style.GRID, linewidth=0.6, zorder=0)
        label_axis(axes, "x", ticks.places, ticks.labels)
        if name == "importance":
            at = list(range(len(ranked)))
            label_axis(axes, "y", [float(i) for i in at], [str(ranked[i].neuron) for i in at])
        title = f"{name} ({ticks.factor})" if ticks.factor else name
        page.text(
            left + half / 2,
            box.top + box.height + 0.36,
            title,
            style.SMALL,
            color=style.SOFT_INK,
            ha="center",
        )
