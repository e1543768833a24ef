"""The part of a result about neurons: over all texts, of each model.

A neuron is one coordinate of the vector that a block's output projection reads. Lists over neurons
follow the index of the coordinate.
"""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Block, Method, Mixer, Ranking
from schemas.sections import Intervention, KnowledgeNeurons, NeuronRef

MOST_KNOWLEDGE_NEURONS = 1000
"""How many neurons of one fact are listed at most."""


class ActivationStatistics(Contract):
    """Of each neuron, over every token of every text."""

    mean: list[float]
    std: list[float] = Field(description="Population standard deviation")
    skewness: list[float | None] = Field(
        description="Third standardised moment; null where the neuron does not vary"
    )
    kurtosis: list[float | None] = Field(
        description="Fourth standardised moment minus 3; null likewise"
    )
    minimum: list[float]
    maximum: list[float]
    mean_magnitude: list[float]
    fraction_active: list[float] = Field(
        description="Share of the tokens at which the magnitude is above `active_above`"
    )
    fraction_positive: list[float] = Field(description="Share of the tokens at which it is above 0")


class Sparsity(Contract):
    """How few of a block's neurons carry its activation; all but the last from `mean_magnitude`."""

    gini: float = Field(description="0: all alike; near 1: a single one")
    entropy: float = Field(description="Of the neurons' shares of the magnitude, nats")
    entropy_normalised: float = Field(description="Entropy / log(neurons)")
    hoyer: float = Field(description="0: all alike; 1: a single one")
    hoyer_per_token: float = Field(description="Of the vector at each token, mean over tokens")


class RankedValue(Contract):
    """A neuron and what it is ranked by."""

    neuron: int
    value: float


class TopToken(Contract):
    """A token at which a neuron is strongest."""

    activation: float
    text_index: int
    position: int
    token: str
    before: str = Field(description="The text of the tokens before it")
    after: str = Field(description="The text of the tokens after it")


class Trigger(Contract):
    """The n-gram, ending at the token itself, that most of a neuron's top tokens share."""

    n: int
    ids: list[int]
    tokens: list[str]
    share: float = Field(description="Share of the neuron's top tokens that end it")
    lift: float = Field(description="That share, over its share of all n-grams of the texts")


class NeuronProfile(Contract):
    """A neuron that a ranking names: where it is strongest, and after what."""

    neuron: int
    top_tokens: list[TopToken]
    triggers: list[Trigger] = Field(
        description="One per n, of those that end at least two of the top tokens"
    )


class DeltaStatistics(Contract):
    """The step Delta of a state-space mixer: of each channel (S6) or each head (SSD)."""

    mean: list[float]
    variance: list[float]


class BlockNeurons(Contract):
    """The neurons of one block of one layer."""

    layer: int
    block: Block
    mixer: Mixer | None = Field(description="Of a mixer, its family; null for an MLP")
    num_neurons: int
    statistics: ActivationStatistics
    sparsity: Sparsity
    dead: list[int] = Field(description="Neurons that are active at no token")
    rare: list[int] = Field(
        description="Neurons that are active, but at a smaller share of tokens than `rare_below`"
    )
    delta: DeltaStatistics | None = Field(description="Null for what has no Delta")
    attribution: list[float] | None = Field(
        description="Of each neuron, activation times gradient of the target, summed over a text's "
        "tokens, mean over the texts; null when not asked for"
    )
    rankings: dict[Ranking, list[RankedValue]] = Field(
        description="Largest magnitude first. `text_variance` needs two texts, `delta_variance` a "
        "state-space mixer and names channels or heads, `attribution` a backward pass"
    )
    profiles: list[NeuronProfile] = Field(
        description="Of every neuron that a ranking but `delta_variance` names"
    )
    artifacts: list[str] = Field(default_factory=list)


class NeuronAnalysis(Contract):
    """The neurons of one model."""

    model: str
    texts: int
    tokens: int
    position_bins: int = Field(
        description="Bins of positions, with equally many tokens, of `position_information`"
    )
    chance_information: float = Field(
        description="Nats that `position_information` has by chance: (bins - 1) / (2 tokens)"
    )
    blocks: list[BlockNeurons]
    unavailable_reason: str | None = Field(
        description="Which blocks of the layers have no neurons that can be read, and why"
    )
    artifacts: list[str] = Field(default_factory=list)


class PromptKnowledge(Contract):
    """One prompt of a fact, and what its integrated gradients add up to."""

    prompt: str
    probability: float = Field(description="Of the answer after this prompt")
    log_probability: float
    completeness_gap: float = Field(
        description="The worst block's |sum of attributions - (probability - probability with the "
        "block's neurons at 0)|, relative to the larger of the two probabilities"
    )


class KnowledgeNeuron(Contract):
    """A neuron that carries a fact."""

    layer: int
    block: Block
    neuron: int
    attribution: float = Field(description="Mean over the fact's prompts")
    prompts: float = Field(description="Share of the fact's prompts that name it")


class FactNeurons(Contract):
    """The neurons of one fact, the largest attribution first."""

    fact: int = Field(description="Index into `facts` of the request")
    answer: str
    answer_tokens: list[str]
    prompts: list[PromptKnowledge]
    neurons: list[KnowledgeNeuron] = Field(
        description=f"The {MOST_KNOWLEDGE_NEURONS} strongest, where there are more"
    )
    per_layer: dict[int, int] = Field(
        description="How many each layer has, those that are not listed among them"
    )


class FactOverlap(Contract):
    """How many neurons two facts share."""

    facts: tuple[int, int]
    jaccard: float | None = Field(description="Shared / all; null where neither has any")
    shared: int


class KnowledgeNeuronAnalysis(Contract):
    """The knowledge neurons of one model."""

    model: str
    facts: list[FactNeurons]
    overlaps: list[FactOverlap] = Field(description="Of every pair of facts")
    unavailable_reason: str | None = Field(
        default=None, description="Why there are no neurons to look at; null where there are"
    )
    artifacts: list[str] = Field(default_factory=list)


class Interval(Contract):
    """A mean with the bounds of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Effect(Contract):
    """What an intervention changes on some texts, mean over them: after minus before."""

    logit: float = Field(description="The target's logit")
    probability: float = Field(description="The target's probability")
    divergence: float = Field(
        description="KL(before || after) of the next token at the target's position, nats"
    )
    loss: float | None = Field(
        description="Mean cross-entropy of a text's next tokens, nats; null where every text is a "
        "single token"
    )
    perplexity: float | None = Field(
        description="exp(loss) after over exp(loss) before; null likewise, and beyond a float"
    )


class RandomEffect(Contract):
    """The same of random sets: mean over the sets, with its interval over them.

    Those of the perplexity are exp of those of the loss: a geometric mean.
    """

    logit: Interval
    probability: Interval
    divergence: Interval
    loss: Interval | None
    perplexity: Interval | None


class Perturbed(Contract):
    """One set of neurons under one intervention."""

    set_index: int = Field(description="Index into `sets` of the request")
    intervention_index: int = Field(description="Index into `interventions`")
    intervention: Intervention
    effect: Effect
    random: RandomEffect
    random_sets: int
    more_extreme: float = Field(
        description="Share of the random sets that lower the target's probability at least as much"
    )
    control: Effect | None = Field(description="On the control texts; null without any")
    random_control: RandomEffect | None


class PerturbedSet(Contract):
    """The neurons of a set."""

    set_index: int
    found_by: Ranking | Method | KnowledgeNeurons | None
    neurons: list[NeuronRef]


class PerturbationAnalysis(Contract):
    """What changes in one model when neurons are changed."""

    model: str
    baseline_loss: float | None = Field(
        description="Mean over the texts; null where every text is a single token"
    )
    baseline_probability: float = Field(description="Of the target, mean over the texts")
    control_loss: float | None
    control_probability: float | None
    sets: list[PerturbedSet]
    results: list[Perturbed] = Field(description="One per set and intervention")
    artifacts: list[str] = Field(default_factory=list)


class UniversalBlock(Contract):
    """One block's neurons, each against its best match in the other model."""

    layer: int
    block: Block
    num_neurons: int
    max_correlation: list[float | None] = Field(
        description="Largest Pearson correlation with a neuron of the other model; null where the "
        "neuron does not vary, or where none of the other model does"
    )
    baseline: list[float | None] = Field(
        description="The same against the other model's neurons, rotated at random in each block"
    )
    best_match: list[NeuronRef | None]
    mean_excess: float = Field(
        description="Mean of max_correlation - baseline; 0 where there is none"
    )
    fraction_universal: float = Field(
        description="Share of the block's neurons whose excess is above the threshold"
    )
    fraction_by_chance: float = Field(
        description="The same if the tokens of one model are shuffled: what chance makes universal"
    )


class UniversalPair(Contract):
    """One model's neurons against another's."""

    models: tuple[str, str] = Field(description="Whose neurons these are, and against whose")
    tokens: int = Field(description="Tokens compared: those that end at the same character in both")
    fraction_universal: float
    fraction_by_chance: float
    mean_excess: float
    blocks: list[UniversalBlock]


class Universality(Contract):
    """The neurons of the job's models against each other."""

    threshold: float
    pairs: list[UniversalPair] = Field(description="Both directions of every pair of models")
    artifacts: list[str] = Field(default_factory=list)
