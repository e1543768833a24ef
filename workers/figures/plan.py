"""Which figures a job has, and what they are drawn from. Loads no drawing library."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas import artifact_names
from schemas.artifact_names import Subject
from schemas.base import Contract
from schemas.comparison import Comparison
from schemas.job import Shows
from schemas.names import Block, Method, Mixer, Ranking, Section
from schemas.neurons import (
    DeltaStatistics,
    KnowledgeNeuronAnalysis,
    NeuronProfile,
    PerturbationAnalysis,
    RankedValue,
    Sparsity,
)
from schemas.result import AveragedKnowledge, TextResult, Token
from schemas.sections import Fact, Intervention, NeuronSection


class TextPart(Contract):
    """One text's part of a document: all that its figures are drawn from."""

    job_id: str
    subject: Subject
    result: TextResult


class ComparedModel(Contract):
    """One text under one model: each token's share of the relevance, by method.

    position is the target's and target its token; layers, how many were read.
    """

    model: str
    target: str
    position: int
    layers: int
    tokens: list[Token]
    shares: dict[Method, list[float]]


class ComparedText(Contract):
    """One text under every model that a method has read."""

    text_index: int
    text: str
    models: list[ComparedModel]


class ComparisonPart(Contract):
    """The part of a document that puts models side by side."""

    job_id: str
    comparison: Comparison
    texts: list[ComparedText]


class BlockPart(Contract):
    """One block's neurons: lists over all of them, and the first of every ranking.

    section: how they were measured. dead and rare: how many there are. chance_information: nats.
    """

    job_id: str
    model: str
    several_models: bool
    section: NeuronSection
    texts: int
    tokens: int
    chance_information: float
    layer: int
    block: Block
    mixer: Mixer | None
    num_neurons: int
    std: list[float]
    fraction_active: list[float]
    dead: int
    rare: int
    sparsity: Sparsity
    delta: DeltaStatistics | None
    rankings: dict[Ranking, list[RankedValue]]
    profiles: list[NeuronProfile]


class BlockSummary(Contract):
    """One block in a few numbers.

    dead and rare are shares of its neurons; mean_magnitude and delta means over them; kurtosis is
    their median excess kurtosis, None where none varies.
    """

    layer: int
    block: Block
    mixer: Mixer | None
    num_neurons: int
    sparsity: Sparsity
    dead: float
    rare: float
    mean_magnitude: float
    kurtosis: float | None
    delta: float | None


class NeuronOverviewPart(Contract):
    """All blocks of one model."""

    job_id: str
    model: str
    several_models: bool
    section: NeuronSection
    texts: int
    tokens: int
    summaries: list[BlockSummary]


class KnowledgePart(Contract):
    """The knowledge neurons of one model, and the facts that were asked for."""

    job_id: str
    several_models: bool
    facts: list[Fact]
    knowledge: KnowledgeNeuronAnalysis

    @property
    def model(self) -> str:
        """Whose they are."""
        return self.knowledge.model


class PerturbationPart(Contract):
    """What interventions change in one model; of each set, the first neuron at most.

    sizes: how many neurons each of the sets has.
    """

    job_id: str
    several_models: bool
    texts: int
    control_texts: int
    interventions: list[Intervention]
    sizes: list[int]
    perturbation: PerturbationAnalysis

    @property
    def model(self) -> str:
        """Whose neurons are changed."""
        return self.perturbation.model


class CorrelatedBlock(Contract):
    """One block's largest correlations and their baseline, as quantiles at `QUANTILES`.

    None where no neuron varies.
    """

    layer: int
    block: Block
    found: list[float] | None
    baseline: list[float] | None
    fraction_universal: float
    fraction_by_chance: float


# Of a distribution: its median, the middle half and nine tenths of it.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class CorrelatedPair(Contract):
    """One model's neurons against another's."""

    models: tuple[str, str]
    tokens: int
    fraction_universal: float
    blocks: list[CorrelatedBlock]


class UniversalityPart(Contract):
    """Every pair of a job's models, both directions."""

    job_id: str
    threshold: float
    pairs: list[CorrelatedPair]


class AveragesPart(Contract):
    """What the texts of one model have in common, by layer and method."""

    job_id: str
    model: str
    several_models: bool
    averages: list[AveragedKnowledge]


Part = (
    TextPart
    | ComparisonPart
    | BlockPart
    | NeuronOverviewPart
    | KnowledgePart
    | PerturbationPart
    | UniversalityPart
    | AveragesPart
)


@dataclass(frozen=True)
class Figure:
    """A figure to be drawn: its file name and what it is about."""

    name: str
    shows: Shows


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name, its PNG bytes, and what it is about."""

    name: str
    png: bytes
    shows: Shows


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
