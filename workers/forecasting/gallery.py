"""All figures of a job: how many, what drawing each takes, and which begin as the rest ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from catalogue.figures import measured_blocks, model_figures
from catalogue.workload import Workload
from schemas.artifact_names import comparison_figure_count, figure_count
from schemas.job import Shows
from schemas.request import JobRequest

# Seconds of a figure on one core that has no other work (as the constants of `efforts`): of any, of
# one of a layer or block, and of each channel and token that it shows; of a token side by side.
_FIGURE, _DETAILED, _BAR, _TOKEN, _COMPARED = 0.025, 0.06, 2e-5, 2e-5, 8e-5


@dataclass(frozen=True)
class Gallery:
    """The figures of a job; `works` are its models, as far as they are known.

    seconds: foretold of all of them, drawn `processes` at a time; last: of those that begin when
    the last model's last text is read; final: of those that begin when all else is computed.
    """

    works: Sequence[Workload] = ()
    processes: int = 1
    figures: int = 0
    seconds: float = 0.0
    last: float = 0.0
    final: float = 0.0

    def seconds_of(self, shows: Shows) -> float:
        """Foretold of the figure that shows this, when every process draws."""
        return _alone(self.works, shows) / self.processes


def gallery(request: JobRequest, works: Sequence[Workload], processes: int) -> Gallery:
    """What a job draws of these models, as far as their configs tell."""
    if not request.figures or not works:
        return Gallery(processes=processes)
    figures, seconds, last, final = 0, 0.0, 0.0, 0.0
    for work in works:
        texts = [_text_seconds(work, text) for text in range(len(work.lengths))]
        of_texts = len(texts) * figure_count(len(work.selection.layers), len(work.methods))
        blocks = 0
        if request.neurons is not None:
            blocks = measured_blocks(request.neurons, work.model, work.selection)
        all_of_model = model_figures(request, work.model, work.selection)
        final = (all_of_model - of_texts - blocks) * _FIGURE
        # Texts are read shortest first, and models one after another.
        last = max(texts) + blocks * _DETAILED
        figures += all_of_model
        seconds += sum(texts) + blocks * _DETAILED + final
    across, together = _across(request, works)
    return Gallery(
        works,
        processes,
        figures + across,
        (seconds + together) / processes,
        last / processes,
        (final + together) / processes,
    )


def _across(request: JobRequest, works: Sequence[Workload]) -> tuple[int, float]:
    """Figures of all models together, and their seconds one at a time."""
    figures, seconds, texts = 0, 0.0, len(works[0].lengths)
    methods = max(len(work.methods) for work in works)
    if methods and len(works) > 1:
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
