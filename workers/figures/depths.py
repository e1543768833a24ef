"""Every model's attention and neurons by relative depth, and how far the models agree."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from schemas.comparison import Comparison, DepthProfile
from schemas.names import Method
from workers.figures import captions, style, words
from workers.figures.captions import Caption
from workers.figures.colours import KINDS, Floats, ink_on
from workers.figures.frame import Frame
from workers.figures.marks import Box, Picture, lines
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.plan import ComparisonPart
from workers.figures.scale import Scale

# Lengths in inches.
LEFT, PANEL_WIDTH, PANEL_HEIGHT = 0.75, 3.15, 1.55
ACROSS, DOWN, TOP = 4.15, 2.45, 0.75
LEGEND_ROW = 0.2
CELL, MOST_CELL_LABEL = 0.52, 1.7

PANELS = (
    ("A", "Attention entropy", "share of the largest possible", "attention_entropy_normalised"),
    ("B", "Distance", "characters from a token back to what it reads", "mean_distance_characters"),
    ("C", "Sink", "weight on the first token", "first_token_mass"),
    ("D", "Neuron sparsity", "Hoyer: 0 all alike, 1 a single one", "neuron_sparsity"),
)


def depths(part: ComparisonPart, method: Method) -> Page:
    """Four panels over relative depth, a line for each model, and the models' rank correlations.

    Raises ValueError: no model was read by the method.
    """
    profiles = [p for p in part.comparison.profiles if p.method == method]
    if not profiles:
        raise ValueError(f"no model was read by {method}")
    legend = TOP - 0.3 + LEGEND_ROW * len(profiles)
    agreement = 0.75 + CELL * max(1, len(profiles) - 1) * 0.62 + 0.2
    page = Page(
        _caption(part, method, profiles),
        height=HEADER_HEIGHT + legend + 2 * DOWN + agreement + FOOTER_HEIGHT,
    )
    _legend(page, profiles)
    for index, (letter, title, unit, field) in enumerate(PANELS):
        box = Box(
            LEFT + (index % 2) * ACROSS,
            HEADER_HEIGHT + legend + (index // 2) * DOWN + 0.5,
            PANEL_WIDTH,
            PANEL_HEIGHT,
        )
        page.heading(box.left, box.top - 0.3, letter, title, unit)
        _panel(page, box, profiles, field)
    _agreement(page, HEADER_HEIGHT + legend + 2 * DOWN + 0.2, part.comparison, method)
    return page


def _caption(part: ComparisonPart, method: Method, profiles: Sequence[DepthProfile]) -> Caption:
    texts = len(part.texts)
    return Caption(
        title=f"{captions.METHODS[method].title} · models by relative depth",
        model=f"{len(profiles)} models",
        explains=f"means over {texts} text{'s' * (texts != 1)}; depth 0 is a model's lowest layer, "
        "1 its highest",
        facts="from attention_knowledge_extraction and neurons of each layer",
        choices="rank correlation of the shares of relevance, over characters that both models "
        "have a token for",
        job=f"job {words.readable(part.job_id, 2.6, style.FOOTER)}",
    )


def _legend(page: Page, profiles: Sequence[DepthProfile]) -> None:
    for index, profile in enumerate(profiles):
        y = HEADER_HEIGHT + 0.25 + LEGEND_ROW * index
        ends = np.array([[style.MARGIN, y - 0.04], [style.MARGIN + 0.3, y - 0.04]])
        page.add(lines(ends[:1], ends[1:], _kind(index), 2.0))
        page.text(style.MARGIN + 0.4, y, words.readable(profile.model, 4.0, style.BODY), style.BODY)
        kinds = "/".join(dict.fromkeys(mixer.value for mixer in profile.mixers))
        count = len(profile.layers)
        what = f"{kinds} · {count} layer{'s' * (count != 1)} read"
        page.aside(page.width - style.MARGIN, y, what)


def _panel(page: Page, box: Box, profiles: Sequence[DepthProfile], field: str) -> None:
    values = [np.array(getattr(profile, field)) for profile in profiles]
    scale = Scale.of(np.concatenate(values), may_bend=False)
    high = 1.08 if scale.limit else 1.0
    frame = page.frame(box, (-0.04, 1.04), (0.0, high))
    ticks = scale.ticks(4).within(0.0, high)
    frame.level(ticks.places, style.GRID, 0.6)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", ticks.places, ticks.labels)
    frame.ticks("bottom", [0.0, 0.5, 1.0], ["0", "0.5", "1"])
    page.axis_title(box, "relative depth")
    for index, (profile, found) in enumerate(zip(profiles, values, strict=True)):
        _line(frame, np.array(profile.relative_depth), scale.place(found), _kind(index))


def _line(frame: Frame, depth: Floats, places: Floats, colour: str) -> None:
    points = frame.points(depth, places)
    if len(points) > 1:
        frame.marks.append(lines(points[:-1], points[1:], colour, 1.4, snap=False))
    for x, y in zip(depth.tolist(), places.tolist(), strict=True):
        frame.dot(x, y, 4.2, colour)


def _agreement(page: Page, top: float, comparison: Comparison, method: Method) -> None:
    """A cell for each pair of models: the mean rank correlation over the texts."""
    models = [profile.model for profile in comparison.profiles if profile.method == method]
    page.heading(LEFT, top, "E", "Agreement", "rank correlation of token relevance, mean of texts")
    if len(models) < 2:
        page.text(LEFT + 0.2, top + 0.4, "one model only", style.SMALL, style.SOFT_INK)
        return
    left, first, height = LEFT + 2.2, top + 0.45, CELL * 0.62
    scale = Scale(1.0, signed=True)
    for row, low in enumerate(models[1:], start=1):
        y = first + (row - 1) * height
        label = words.readable(low, 2.0, style.SMALL)
        page.text(left - 0.12, y + height / 2 + 0.04, label, style.SMALL, align="right")
        for column, high in enumerate(models[:row]):
            found = [
                agreement.spearman
                for agreement in comparison.agreements
                if agreement.method == method
                and set(agreement.models) == {low, high}
                and agreement.spearman is not None
            ]
            box = Box(left + column * CELL, y, CELL - 0.03, height - 0.03)
            _cell(page, box, fmean(found) if found else None, scale)
    for column in range(len(models) - 1):
        middle = left + (column + 0.5) * CELL
        dot = page.frame(Box(middle - 0.04, first - 0.13, 0.08, 0.08), (0, 1), (0, 1))
        dot.dot(0.5, 0.5, 6.0, _kind(column))
    for row in range(1, len(models)):
        y = first + (row - 0.5) * height
        dot = page.frame(Box(left - 0.1, y - 0.04, 0.08, 0.08), (0, 1), (0, 1))
        dot.dot(0.5, 0.5, 6.0, _kind(row))


def _cell(page: Page, box: Box, value: float | None, scale: Scale) -> None:
    colour = scale.colours(np.array([0.0 if value is None else value]))
    page.add(Picture(box, colour[None]))
    shown = "–" if value is None else words.signed_number(f"{value:.2f}")  # noqa: RUF001
    page.text(
        box.left + box.width / 2,
        box.top + box.height / 2 + 0.04,
        shown,
        style.SMALL,
        ink_on(colour[0]),
        align="center",
    )


def _kind(index: int) -> str:
    return KINDS[index % len(KINDS)]
