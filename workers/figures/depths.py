"""Every model's attention and neurons by relative depth, and how far the models agree."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from schemas.comparison import Comparison, DepthProfile
from schemas.names import Method
from workers.figures import captions, curves, legends, style, words
from workers.figures.captions import Caption
from workers.figures.colours import KINDS, ink_on
from workers.figures.marks import Box, Picture
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import ComparisonPart
from workers.figures.scale import Scale

# Lengths in inches.
LEFT, PANEL_WIDTH, PANEL_HEIGHT = 0.75, 3.15, 1.55
ACROSS, DOWN, TOP = 4.15, 2.45, 0.75
WIDEST_CELL, ROOM, CELL_HEIGHT = 0.52, 2.2, 0.32

PANELS = (
    ("a", "Attention entropy", "share of the largest possible", "attention_entropy_normalised"),
    ("b", "Distance", "characters from a token back to what it reads", "mean_distance_characters"),
    ("c", "Sink", "weight on the first token", "first_token_mass"),
    ("d", "Neuron sparsity", "Hoyer: 0 all alike, 1 a single one", "neuron_sparsity"),
)


def depths(part: ComparisonPart, method: Method) -> Page:
    """Four panels over relative depth, a line for each model, and the models' rank correlations.

    Raises ValueError: no model was read by the method.
    """
    profiles = [p for p in part.comparison.profiles if p.method == method]
    if not profiles:
        raise ValueError(f"no model was read by {method}")
    legend = TOP - 0.3 + legends.ROW * len(profiles)
    agreement = 0.75 + CELL_HEIGHT * max(1, len(profiles) - 1) + 0.2
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
    texts = words.several(len(part.texts), "text")
    return Caption(
        title=f"{captions.METHODS[method].title} · models by relative depth",
        model=words.several(len(profiles), "model"),
        explains=f"means over {texts}; depth 0 is a model's lowest layer, 1 its highest",
        facts="from attention_knowledge_extraction and neurons of each layer",
        choices=_unread(part.comparison, profiles)
        or "agreement and overlap of the shares of relevance, over characters both have tokens for",
        job=captions.of_job(part.job_id),
    )


def _unread(comparison: Comparison, profiles: Sequence[DepthProfile]) -> str:
    """Names the models that the method could not read; empty where there are none."""
    left = [name for name in comparison.models if name not in {p.model for p in profiles}]
    return f"not read by this method: {', '.join(left)}" if left else ""


def _legend(page: Page, profiles: Sequence[DepthProfile]) -> None:
    entries = []
    for index, profile in enumerate(profiles):
        kinds = "/".join(dict.fromkeys(mixer.value for mixer in profile.mixers))
        what = f"{kinds} · {words.several(len(profile.layers), 'layer')} read"
        entries.append(legends.Entry(_kind(index), profile.model, what))
    legends.rows(page, HEADER_HEIGHT + 0.25, entries)


def _panel(page: Page, box: Box, profiles: Sequence[DepthProfile], field: str) -> None:
    curves.panel(
        page,
        box,
        curves.Across("relative depth", (-0.04, 1.04), [0.0, 0.5, 1.0], ["0", "0.5", "1"]),
        [
            curves.Curve(
                _kind(index), np.array(profile.relative_depth), np.array(getattr(profile, field))
            )
            for index, profile in enumerate(profiles)
        ],
    )


def _agreement(page: Page, top: float, comparison: Comparison, method: Method) -> None:
    """Two tables, a cell for each pair of models: means over the texts."""
    models = [profile.model for profile in comparison.profiles if profile.method == method]
    found = [a for a in comparison.agreements if a.method == method]
    ranks: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    shares: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for agreement in found:
        ranks[agreement.models].append(agreement.spearman)
        shares[agreement.models].append(agreement.overlap)
    page.heading(LEFT, top, "e", "Agreement", "rank correlation of relevance, mean over texts")
    page.heading(LEFT + ACROSS, top, "f", "Overlap", "share of relevance on the same characters")
    if len(models) < 2:
        page.text(LEFT + 0.2, top + 0.4, "one model only", style.SMALL, style.SOFT_INK)
        return
    for row, model in enumerate(models[1:], start=1):
        label = words.readable(model, 2.0, style.SMALL)
        middle = top + 0.45 + (row - 0.5) * CELL_HEIGHT + 0.04
        page.text(LEFT + 2.08, middle, label, style.SMALL, align="right")
    _pairs(page, LEFT + 2.2, top + 0.45, models, ranks, Scale(1.0, signed=True))
    _pairs(page, LEFT + ACROSS + 0.4, top + 0.45, models, shares, Scale(1.0, signed=False))


def _pairs(
    page: Page,
    left: float,
    top: float,
    models: Sequence[str],
    values: Mapping[tuple[str, str], Sequence[float | None]],
    scale: Scale,
) -> None:
    """A cell for each pair, between the dots of both models' colours."""
    width = min(WIDEST_CELL, ROOM / (len(models) - 1))
    for row in range(1, len(models)):
        for column in range(row):
            known = [v for v in values.get((models[column], models[row]), ()) if v is not None]
            y = top + (row - 1) * CELL_HEIGHT
            box = Box(left + column * width, y, width - 0.03, CELL_HEIGHT - 0.03)
            _cell(page, box, fmean(known) if known else None, scale)
    for index in range(len(models) - 1):
        _dot(page, left + (index + 0.5) * width - 0.04, top - 0.13, _kind(index))
        _dot(page, left - 0.1, top + (index + 0.5) * CELL_HEIGHT - 0.04, _kind(index + 1))


def _dot(page: Page, left: float, top: float, colour: str) -> None:
    page.frame(Box(left, top, 0.08, 0.08), (0, 1), (0, 1)).dot(0.5, 0.5, 6.0, colour)


def _cell(page: Page, box: Box, value: float | None, scale: Scale) -> None:
    colour = scale.colours(np.array([0.0 if value is None else value]))
    page.add(Picture(box, colour[None]))
    shown = words.NO_NUMBER if value is None else words.signed_number(f"{value:.2f}")
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
