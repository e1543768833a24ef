"""All figures of a job: how many, what drawing each takes, and which begin as the rest ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from catalogue.figures import model_figures
from catalogue.workload import Workload
from schemas.artifact_names import comparison_figure_count, figure_count
from schemas.job import Shows
from schemas.request import JobRequest

# Seconds of a figure on one core that has no other work (as the constants of `efforts`): of any, of
# one of a layer or block, and of each channel and token that it shows; of a token side by side.
_FIGURE, _DETAILED, _BAR, _TOKEN, _COMPARED = 0.025, 0.06, 2e-5, 2e-5, 8e-5
# Processes that draw, at most.
_MOST_PROCESSES = 8


@dataclass(frozen=True)
class Gallery:
    """The figures of a job; `works` are its models, as far as they are known.

    seconds: foretold of all of them; last: of those that can only begin as the computing ends.
    """

    works: Sequence[Workload] = ()
    figures: int = 0
    seconds: float = 0.0
    last: float = 0.0

    def seconds_of(self, shows: Shows) -> float:
        """Foretold of the figure that shows this, while as many are drawn as can be."""
        return _alone(self.works, shows) / _processes(self.works)


def gallery(request: JobRequest, works: Sequence[Workload]) -> Gallery:
    """About what a job draws of these models."""
    if not request.figures or not works:
        return Gallery()
    figures, seconds, last = 0, 0.0, 0.0
    for work in works:
        of_text = figure_count(len(work.selection.layers), len(work.methods))
        texts = [_text_seconds(work, text) for text in range(len(work.lengths))]
        others = model_figures(request, work.model, work.selection) - of_text * len(texts)
        after = others * (_FIGURE if request.neurons is None else _DETAILED)
        figures += of_text * len(texts) + others
        seconds += sum(texts) + after
        # Texts are read shortest first, and models one after another.
        last = max(texts) + after
    across, together = _across(request, works)
    at_a_time = _processes(works)
    return Gallery(
        works, figures + across, (seconds + together) / at_a_time, (last + together) / at_a_time
    )


def _across(request: JobRequest, works: Sequence[Workload]) -> tuple[int, float]:
    """Figures of all models together, and their seconds one at a time."""
    figures, seconds, texts = 0, 0.0, len(works[0].lengths)
    if methods := len(works[0].methods) if len(works) > 1 else 0:
        figures = comparison_figure_count(texts, methods)
        shown = [_alone(works, Shows(text=text)) for text in range(texts)]
        seconds = methods * (sum(shown) + _FIGURE)
    if request.universality is not None:
        figures, seconds = figures + 1, seconds + _FIGURE
    return figures, seconds


def _text_seconds(work: Workload, text: int) -> float:
    """Of all figures of one text under one model: sheets, a strip a layer, and overviews."""
    layers, methods = len(work.selection.layers), len(work.methods)
    if not layers:
        return 0.0
    of_layer = _alone([work], Shows(model=work.model.id, text=text, layer=0))
    return layers * (methods + 1) * of_layer + methods * _FIGURE


def _alone(works: Sequence[Workload], shows: Shows) -> float:
    """Of one figure, one at a time."""
    if shows.text is not None and shows.model is None:
        return _FIGURE + _COMPARED * sum(work.lengths[shows.text] for work in works)
    if shows.layer is None:
        return _FIGURE
    shown = next((work for work in works if work.model.id == shows.model), None)
    if shows.text is None or shown is None:
        return _DETAILED
    bars = _BAR * max(shown.channels, default=0)
    return _DETAILED + bars + _TOKEN * shown.lengths[shows.text]


def _processes(works: Sequence[Workload]) -> int:
    return max(min(works[0].threads, _MOST_PROCESSES), 1) if works else 1
