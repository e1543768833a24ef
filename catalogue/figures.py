"""How many figures a request has drawn, and whether they are too many."""

from collections.abc import Iterator, Sequence

from catalogue.case import Case
from catalogue.selection import Selection, select
from schemas.artifact_names import (
    averages_figure_count,
    comparison_figure_count,
    figure_count,
    neuron_figure_count,
)
from schemas.catalogue import ModelDescription
from schemas.names import Block
from schemas.problem import FieldError
from schemas.request import JobRequest
from schemas.sections import NeuronSection


def model_figures(request: JobRequest, model: ModelDescription, chosen: Selection) -> int:
    """All figures of one model by itself, at most."""
    methods = 0 if request.attention is None else len(request.attention.methods)
    layers, texts = len(chosen.layers), len(request.texts)
    count = texts * figure_count(layers, methods) + averages_figure_count(layers, texts)
    if request.neurons is not None:
        count += neuron_figure_count(measured_blocks(request.neurons, model, chosen))
    return count + (request.knowledge_neurons is not None) + (request.perturbation is not None)


def figure_errors(cases: Sequence[Case]) -> Iterator[FieldError]:
    """Whether the job would draw more than one may; `cases` hold no other error."""
    if not cases:
        return
    request, limit = cases[0].request, cases[0].settings.max_figures
    if not request.figures:
        return
    methods = () if request.attention is None else request.attention.methods
    texts, count = len(request.texts), int(request.universality is not None)
    if methods and len(cases) > 1:
        count += comparison_figure_count(texts, len(methods))
    for case in cases:
        if case.described is not None:
            chosen = select(request, case.described)
            count += model_figures(request, case.described, chosen)
    if count > limit:
        detail = (
            f"The job would draw {count} figures; one job may draw {limit}: set `figures` to "
            "false, or ask for fewer texts, layers or models."
        )
        yield FieldError(pointer="/figures", detail=detail)


def measured_blocks(section: NeuronSection, model: ModelDescription, chosen: Selection) -> int:
    """Blocks whose neurons are measured, and those of which the config does not tell."""
    asked = section.blocks or tuple(Block)
    layers = (model.layers[layer] for layer in chosen.neurons)
    return sum(layer.neurons_of(of) != 0 for layer in layers for of in asked)
