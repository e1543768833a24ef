"""The result document. Axis words: query t reads key s; channel d; layers count from 0.

Numbers are finite or null, never NaN. Lists over tokens follow `tokens`; lists over neurons
follow the channel index of the layer's mixer.
"""

from typing import Literal

from pydantic import Field

from schemas.base import Contract
from schemas.comparison import Comparison
from schemas.interval import Interval
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.names import RESULT_SCHEMA_VERSION, Method, Mixer
from schemas.neurons import NeuronAnalysis
from schemas.perturbation import PerturbationAnalysis
from schemas.universality import Universality


class Token(Contract):
    """One token of a text; `start` and `end` are character offsets into the text."""

    id: int
    text: str
    start: int
    end: int
    unknown: bool = Field(
        default=False,
        description="Whether the vocabulary lacks it: the model has read a stand-in, not this text",
    )


class Candidate(Contract):
    """A next token with its logit and probability at the target position."""

    id: int
    token: str
    logit: float
    probability: float


class TargetResult(Contract):
    """The scalar that was explained: `value` = logit(token) - logit(contrast)."""

    position: int = Field(description="Index into `tokens` whose next-token logits are read")
    token: Candidate
    contrast: Candidate | None
    value: float
    top: list[Candidate] = Field(description="The five likeliest next tokens")


class RankedNeuron(Contract):
    """A neuron (channel of the mixer) with its activation and importance."""

    neuron: int
    activation: float
    importance: float | None = Field(description="Null where the layer's importance is")


class NeuronSummary(Contract):
    """The neurons of one layer under one method."""

    mean_activation: float
    activation_std: float
    neuron_diversity: float = Field(description="Entropy of softmax(activation), nats")
    num_neurons: int
    top_by_activation: list[RankedNeuron] = Field(description="Largest |activation| first")
    top_by_importance: list[RankedNeuron] | None = Field(
        description="Largest |importance| first; null without an importance"
    )
    activation: list[float]
    importance: list[float] | None = Field(
        description="Null for `rollout` with `rows: target`, which does not compute what it needs"
    )
    importance_unavailable_reason: str | None = Field(
        default=None, description="Why there is no importance; null where there is one"
    )


class Pair(Contract):
    """A query position, the key position it reads, and the weight."""

    query: int
    key: int
    weight: float


# Rows and columns of a heatmap at most: a panel of three inches shows no more.
HEATMAP_BLOCKS = 128


class Heatmap(Contract):
    """The token-to-token matrix for drawing, lower triangle only.

    Row i belongs to query positions queries[i] .. queries[i] + stride - 1 and lists key blocks of
    `stride` positions from 0 on. With stride 1 the values are exact; above, each is the entry of
    its block that is largest in magnitude.
    """

    queries: list[int]
    stride: int
    rows: list[list[float]]


class Parameters(Contract):
    """The named choices between the signed matrix and the reported numbers."""

    clamp: Literal["none", "negative-to-zero"]
    normalisation: Literal["none", "rows"]
    channel_reduction: Literal["mean", "norm"]
    token_reduction: Literal["target-row", "column-sum"]
    rows: Literal["all", "target"] = Field(
        default="all", description="The query rows that were computed"
    )


class MethodAttention(Contract):
    """One layer read by one method."""

    parameters: Parameters
    token_relevance: list[float]
    signed_relevance: list[float] | None = None
    bias_relevance: float | None = Field(
        default=None,
        description="`contribution`: what the biases, which belong to no token, add to the target",
    )
    row_sum_error: float = Field(
        description=(
            "Self-check: max|row sums - linear-time scan|, relative to the largest row's sum of "
            "magnitudes; for `rollout` the worst of the matrices it multiplies, or of the changes "
            "of a row's sum, which is 1, on its way through the layers; for "
            "`contribution` max|sum of all parts - the model's output| / max|output|"
        ),
    )
    neurons: NeuronSummary
    strongest_pairs: list[Pair]
    heatmap: Heatmap
    artifacts: list[str] = Field(default_factory=list)


class LayerAttention(Contract):
    """One layer: which mixer it carries, how well its trace rebuilds it, and every method."""

    mixer: Mixer
    beside: Mixer | None = Field(
        default=None, description="Another mixer of the same layer, which no method reads; or null"
    )
    reconstruction_error: float = Field(
        description="max|rebuilt - actual| / max|actual| of the output of `mixer`"
    )
    methods: dict[Method, MethodAttention]


class KnowledgeMetrics(Contract):
    """`attention_knowledge_extraction` of one layer and method, from row-normalised |matrix|.

    Rows without an entry of at least 2^-23 of the matrix's largest are left out of the means.
    """

    attention_entropy: float = Field(description="Nats, mean over rows")
    attention_entropy_normalised: float = Field(description="Entropy / log(keys), mean over rows")
    attention_diversity: float = Field(description="Std along keys, mean over rows")
    mean_attention: float = Field(description="Of the raw matrix over causal pairs")
    max_attention: float
    min_attention: float
    effective_keys: float = Field(description="exp(entropy), mean over rows")
    first_token_mass: float = Field(description="Weight on the first token, mean over rows")
    mean_distance: float = Field(description="Mean of |t - s| in tokens under the row weights")
    mean_distance_characters: float = Field(
        description="The same between the middles of the tokens, in characters of the text"
    )


class AveragedKnowledge(Contract):
    """`attention_knowledge_extraction` of one model, layer and method, over all texts.

    Each interval is a bootstrap over the texts; with a single text it is the number itself.
    """

    model: str
    layer: int
    method: Method
    texts: int
    attention_entropy: Interval
    attention_entropy_normalised: Interval
    attention_diversity: Interval
    mean_attention: Interval
    max_attention: Interval
    min_attention: Interval
    effective_keys: Interval
    first_token_mass: Interval
    mean_distance: Interval
    mean_distance_characters: Interval


class KnowledgeAverages(Contract):
    """What the texts of one model have in common."""

    model: str
    averages: list[AveragedKnowledge] = Field(description="One per layer and method")
    artifacts: list[str] = Field(default_factory=list)


class TextResult(Contract):
    """Everything about one text under one model."""

    model: str
    text_index: int = Field(description="Index into `texts` of the request")
    text: str
    tokens: list[Token]
    target: TargetResult
    has_attention_analysis: bool
    attention_unavailable_reason: str | None = Field(
        default=None, description="Which of the layers asked for have none, and why; else null"
    )
    attention_analysis: dict[int, LayerAttention] = Field(
        default_factory=dict, description="By layer"
    )
    attention_knowledge_extraction: dict[int, dict[Method, KnowledgeMetrics]] = Field(
        default_factory=dict, description="By layer and method"
    )
    artifacts: list[str] = Field(default_factory=list)


class ModelProvenance(Contract):
    """Which weights were run, and how."""

    model: str
    architecture: str
    revision: str | None = Field(description="Commit on Hugging Face; null for a directory")
    weights_sha256: str
    dtype: str
    device: str
    kernel: str = Field(description="Which scan ran; `none` where no layer scans")


class Provenance(Contract):
    """All that is needed to run it again and get the same numbers, to float32 rounding."""

    models: list[ModelProvenance]
    versions: dict[str, str]
    seed: int
    seconds: dict[str, float] = Field(description="Wall time per stage")
    models_loaded: int = Field(description="Models this job had to load; 0 when all were resident")


class ResultDocument(Contract):
    """The result of a job."""

    schema_version: str = RESULT_SCHEMA_VERSION
    job_id: str
    layers: dict[str, list[int]] = Field(description="Layers whose attention was read, by model")
    provenance: Provenance
    results: list[TextResult] = Field(description="One per model and text")
    attention_knowledge_averages: list[KnowledgeAverages] = Field(
        default_factory=list, description="One per model whose attention was read"
    )
    neuron_analysis: list[NeuronAnalysis] = Field(
        default_factory=list, description="One per model, over all its texts; none when not asked"
    )
    knowledge_neurons: list[KnowledgeNeuronAnalysis] = Field(
        default_factory=list, description="One per model; none when not asked"
    )
    perturbation: list[PerturbationAnalysis] = Field(
        default_factory=list, description="One per model; none when not asked"
    )
    comparison: Comparison | None = Field(
        default=None, description="The models side by side; null for a job of one model"
    )
    universality: Universality | None = Field(default=None, description="Null when not asked")
