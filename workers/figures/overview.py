"""Layers x tokens under one method."""

from collections.abc import Sequence

import numpy as np

from schemas.names import Method
from schemas.result import TextResult
from workers.figures import captions, style, words
from workers.figures.labels import CLEARANCE, TokenAxis
from workers.figures.marks import Box
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import TextPart
from workers.figures.scale import NICE_STEPS, TINIEST, Scale
from workers.figures.series import Series, relevances

# Lengths in inches.
LEFT, MATRIX_WIDTH = 0.75, 5.9
HEAD, GAP = 0.74, 0.2
LOWEST_ROW, HIGHEST_ROW, MATRIX_HEIGHT = 0.09, 0.32, 3.4
BAR_LENGTH = 1.1
# From the middle of a row down to its label's baseline: about half the height of a capital.
LABEL_DROP = 0.037
# Cells of fewer points have no room for the ring around their layer's largest.
SMALLEST_RINGED = 5.0


def overview(part: TextPart, method: Method) -> Page:
    """Every analysed layer's relevance of every token, each layer divided by its own largest.

    For `contribution` a second panel shows the signed effect on the target.
    Raises ValueError: no layer of the result was analysed by the method.
    """
    result = part.result
    layers = sorted(
        layer for layer, found in result.attention_analysis.items() if method in found.methods
    )
    if not layers:
        raise ValueError(f"no layer was analysed by {method}: ask for it in `attention.methods`")
    read = [result.attention_analysis[layer].methods[method] for layer in layers]
    series = relevances(method, read)
    height = len(layers) * float(np.clip(MATRIX_HEIGHT / len(layers), LOWEST_ROW, HIGHEST_ROW))
    _, stride = series[0].thinned
    along = TokenAxis.of(
        "x",
        MATRIX_WIDTH,
        result.tokens,
        range(0, len(result.tokens), stride),
        stride,
        result.target.position,
    )
    pitch = HEAD + height + along.depth + GAP
    errors = [result.attention_analysis[layer].reconstruction_error for layer in layers]
    page = Page(
        captions.caption(
            part,
            [method],
            f"{captions.METHODS[method].title} · layers by tokens",
            [f"largest {captions.rebuilt(max(errors))}"],
            captions.parameters(read[0]),
        ),
        height=HEADER_HEIGHT + len(series) * pitch + FOOTER_HEIGHT,
    )
    for index, shown in enumerate(series):
        box = Box(LEFT, HEADER_HEIGHT + index * pitch + HEAD, MATRIX_WIDTH, height)
        _panel(page, box, shown, along)
        _label_layers(page, box, shown, layers, result)
    return page


def _panel(page: Page, box: Box, shown: Series, along: TokenAxis) -> None:
    values, stride = shown.thinned
    pooled = f"; each column is the largest of {stride} tokens" if stride > 1 else ""
    page.heading(
        box.left,
        box.top - 0.44,
        "",
        shown.title,
        shown.unit,
        f"each layer divided by its own largest magnitude{pooled}",
    )
    scale = Scale(1.0, Scale.of(shown.values, shown.signed).signed)
    page.level_bar(scale, page.width - style.MARGIN - BAR_LENGTH, box.top - 0.53, BAR_LENGTH)
    safe = np.where(shown.largest > TINIEST, shown.largest, 1.0)
    rows, columns = values.shape
    frame = page.frame(box, (-0.5, columns - 0.5), (rows - 0.5, -0.5))
    frame.picture(scale.colours(values / safe[:, None]))
    along.draw(frame)
    cell = style.POINTS_PER_INCH * min(box.height / rows, box.width / columns)
    if cell < SMALLEST_RINGED:
        return
    peaks = np.abs(values).argmax(axis=1)
    for layer in np.flatnonzero(shown.largest > TINIEST).tolist():
        frame.dot(float(peaks[layer]), layer, min(0.45 * cell, 5.5), ring=0.9)


def _label_layers(
    page: Page, box: Box, shown: Series, layers: Sequence[int], result: TextResult
) -> None:
    """The layers at the left; at the right each one's strongest relevance and its token."""
    row = box.height / len(layers)
    step = next(s for s in NICE_STEPS if s * row * style.POINTS_PER_INCH >= style.SMALL * CLEARANCE)
    right = box.left + box.width + 0.1
    for i in range(0, len(layers), step):
        middle = box.top + (i + 0.5) * row + LABEL_DROP
        page.text(box.left - 0.1, middle, str(layers[i]), style.SMALL, align="right")
        peak = shown.peaks[i]
        aside = words.number(float(shown.values[i, peak]))
        if shown.largest[i] > TINIEST:
            aside += f" at {peak}: "
            room = page.width - style.MARGIN - right - words.width(aside, style.SMALL)
            aside += words.readable(result.tokens[peak].text, room, style.SMALL)
        page.text(right, middle, aside, style.SMALL, style.SOFT_INK)
    page.text(right, box.top - 0.1, "largest", style.SMALL, style.SOFT_INK)
    page.aside(box.left - 0.1, box.top - 0.1, "layer")
