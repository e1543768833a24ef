"""Which figures a job has: their names, and what each is about. Loads no drawing library."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas import artifact_names
from schemas.artifact_names import Subject
from schemas.job import Shows
from schemas.names import Method, Section
from workers.figures.parts import (
    AveragesPart,
    BlockPart,
    ComparisonPart,
    KnowledgePart,
    NeuronOverviewPart,
    Part,
    PerturbationPart,
    TextPart,
    UniversalityPart,
)


@dataclass(frozen=True)
class Figure:
    """A figure to be drawn: its file name and what it is about."""

    name: str
    shows: Shows


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name, its PNG bytes, and what it is about.

    seconds: of its drawing, over the number of processes that draw, so that those of figures drawn
    side by side add up to the time that passed.
    """

    name: str
    png: bytes
    shows: Shows
    seconds: float = field(default=0.0, compare=False)


def figures(part: Part) -> Iterator[Figure]:
    """Every figure of a part. The names are those of `schemas.artifact_names`."""
    match part:
        case TextPart():
            yield from _of_text(part)
        case ComparisonPart():
            yield from _of_comparison(part)
        case BlockPart():
            yield _of_block(part)
        case _:
            yield _of_whole(part)


def _of_block(part: BlockPart) -> Figure:
    name = artifact_names.block_neurons(part.model, part.several_models, part.block, part.layer)
    shows = Shows(section=Section.NEURONS, model=part.model, layer=part.layer, block=part.block)
    return Figure(name, shows)


def _of_whole(
    part: NeuronOverviewPart | KnowledgePart | PerturbationPart | UniversalityPart | AveragesPart,
) -> Figure:
    """The one figure of a section."""
    match part:
        case NeuronOverviewPart():
            section, name = Section.NEURONS, artifact_names.neurons_overview
        case KnowledgePart():
            section, name = Section.KNOWLEDGE_NEURONS, artifact_names.knowledge_neurons
        case PerturbationPart():
            section, name = Section.PERTURBATION, artifact_names.perturbation
        case AveragesPart():
            section, name = Section.ATTENTION, artifact_names.knowledge_averages
        case UniversalityPart():
            return Figure(artifact_names.universality(), Shows(section=Section.UNIVERSALITY))
    shows = Shows(section=section, model=part.model)
    return Figure(name(part.model, part.several_models), shows)


def _of_comparison(part: ComparisonPart) -> Iterator[Figure]:
    """The tokens per text and method, the depths per method."""
    several = len(part.texts) > 1
    methods = dict.fromkeys(profile.method for profile in part.comparison.profiles)
    for text in part.texts:
        for method in methods:
            name = artifact_names.compared_tokens(text.text_index, several, method)
            yield Figure(name, _attention(text=text.text_index, method=method))
    for method in methods:
        yield Figure(artifact_names.compared_depths(method), _attention(method=method))


def _of_text(part: TextPart) -> Iterator[Figure]:
    """A sheet per layer and method, a token strip per layer, an overview per method.

    None for a text without attention analysis.
    """
    subject = part.subject
    methods: dict[Method, None] = {}
    for layer, analysed in part.result.attention_analysis.items():
        methods |= dict.fromkeys(analysed.methods)
        for method in analysed.methods:
            name = artifact_names.sheet(subject, method, layer)
            yield Figure(name, _shows(subject, layer, method))
        if analysed.methods:
            yield Figure(artifact_names.token_strip(subject, layer), _shows(subject, layer))
    for method in methods:
        yield Figure(artifact_names.overview(subject, method), _shows(subject, method=method))


def _shows(subject: Subject, layer: int | None = None, method: Method | None = None) -> Shows:
    return _attention(subject.model, subject.text, layer, method)


def _attention(
    model: str | None = None,
    text: int | None = None,
    layer: int | None = None,
    method: Method | None = None,
) -> Shows:
    return Shows(section=Section.ATTENTION, model=model, text=text, layer=layer, method=method)
