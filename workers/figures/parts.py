"""The parts of a document that figures are drawn from. Loads no drawing library."""

from schemas.artifact_names import Subject
from schemas.base import Contract
from schemas.comparison import Comparison
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.names import Block, Method, Mixer, Ranking
from schemas.neurons import DeltaStatistics, NeuronProfile, RankedValue, Sparsity
from schemas.perturbation import PerturbationAnalysis
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
