"""What a result says of the neurons of each model, over all texts.

A neuron is one coordinate of the vector that a block's output projection reads. Lists over neurons
follow the index of the coordinate.
"""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Block, Mixer, Ranking


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
