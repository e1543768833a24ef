"""Layers x tokens under one method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.names import Method
from schemas.result import ResultDocument, TextResult
from workers.figures import captions, panels, style, words
from workers.figures.colours import Floats
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page, label_axis
from workers.figures.panels import Box, Labels
from workers.figures.scale import TINIEST, Scale

LEFT, RIGHT = 0.95, 1.05
HEAD, LABELS = 0.76, 0.98
LOWEST_ROW, HIGHEST_ROW, MATRIX_HEIGHT = 0.09, 0.32, 3.4
BAR_LENGTH = 1.1


@dataclass(frozen=True)
class Series:
    """One quantity over layers and tokens: values (layers, l)."""

    title: str
    unit: str
    values: Floats


def overview(document: ResultDocument, result: TextResult, method: Method) -> Page:
    """Every analysed layer's relevance of every token, each layer divided by its own largest.

    For `contribution` a second panel shows the signed effect on the target.

    Raises:
        ValueError: no layer of the result was analysed by the method.
    """
    layers = sorted(
        layer for layer, found in result.attention_analysis.items() if method in found.methods
    )
    if not layers:
        raise ValueError(f"no layer was analysed by {method}: ask for it in `attention.methods`")
    series = _series(result, layers, method)
    height = len(layers) * float(np.clip(MATRIX_HEIGHT / len(layers), LOWEST_ROW, HIGHEST_ROW))
    start = HEADER_HEIGHT + HEAD
    errors = [result.attention_analysis[layer].reconstruction_error for layer in layers]
    page = Page(
        captions.caption(
            document,
            result,
            f"{captions.METHODS[method].title} · layers by tokens",
            [f"largest {captions.rebuilt(max(errors))}"],
            captions.parameters(result.attention_analysis[layers[0]].methods[method]),
        ),
        height=start + len(series) * (height + LABELS) + (len(series) - 1) * 0.5 + FOOTER_HEIGHT,
    )
    for index, shown in enumerate(series):
        top = start + index * (height + LABELS + 0.5)
        box = Box(LEFT, top, page.width - LEFT - RIGHT - style.MARGIN, height)
        _panel(page, box, shown, layers, result)
    return page


def _series(result: TextResult, layers: Sequence[int], method: Method) -> list[Series]:
    name = captions.METHODS[method]
    read = [result.attention_analysis[layer].methods[method] for layer in layers]
    series = [
        Series(
            "Relevance of each token", name.relevance, np.array([m.token_relevance for m in read])
        )
    ]
    signed = [m.signed_relevance for m in read if m.signed_relevance is not None]
    if len(signed) == len(read):
        series.append(Series("Signed relevance", name.signed, np.array(signed)))
    return series


def _panel(page: Page, box: Box, shown: Series, layers: Sequence[int], result: TextResult) -> None:
    values, stride = panels.thin(shown.values)
    largest = np.abs(values).max(axis=1)
    safe = np.where(largest > TINIEST, largest, 1.0)
    signed = bool((values < 0).any())
    pooled = f"; each column is the largest of {stride} tokens" if stride > 1 else ""
    page.heading(
        box.left,
        box.top - 0.44,
        "",
        shown.title,
        shown.unit,
        f"each layer divided by its own largest magnitude, ringed{pooled}",
    )
    axes = page.axes(box.left, box.top, box.width, box.height)
    axes.imshow(
        Scale(1.0, signed).colours(values / safe[:, None]), aspect="auto", interpolation="nearest"
    )
    peaks = np.abs(values).argmax(axis=1)
    size = float(np.clip(box.height / len(layers) * 72 * 0.3, 2.0, 6.0))
    live = np.flatnonzero(largest > 0)
    axes.plot(
        peaks[live],
        live,
        "o",
        markersize=size,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=0.9,
        clip_on=False,
    )
    positions = [i * stride for i in range(values.shape[1])]
    panels.label_tokens(
        axes, "x", box, Labels(result.tokens, positions, stride, result.target.position)
    )
    pitch = box.height * 72 / len(layers)
    step = next(s for s in panels.NICE_STEPS if s >= style.SMALL * 1.2 / pitch)
    rows = range(0, len(layers), step)
    label_axis(axes, "y", [float(i) for i in rows], [str(layers[i]) for i in rows])
    right = box.left + box.width + 0.1
    for i in rows:
        middle = box.top + (i + 0.5) * box.height / len(layers) + 0.037
        page.text(right, middle, words.number(largest[i]), style.SMALL, color=style.SOFT_INK)
    page.text(right, box.top - 0.08, "largest", style.SMALL, color=style.SOFT_INK)
    page.text(
        box.left - 0.08, box.top - 0.08, "layer", style.SMALL, color=style.SOFT_INK, ha="right"
    )
    page.level_bar(
        Scale(1.0, signed), page.width - style.MARGIN - BAR_LENGTH, box.top - 0.53, BAR_LENGTH
    )
