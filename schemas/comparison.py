"""Models side by side: what several models of one job say about the same texts."""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Method, Mixer


class DepthProfile(Contract):
    """One model under one method, layer by layer; every list follows `layers`.

    Means over the texts, of what stands in `attention_knowledge_extraction`, and of the sparsity of
    `neurons.activation`.
    """

    model: str
    method: Method
    layers: list[int]
    relative_depth: list[float] = Field(
        description="Layer / (layers of the model - 1): 0 the lowest, 1 the highest"
    )
    mixers: list[Mixer]
    attention_entropy_normalised: list[float] = Field(description="Entropy / log(keys)")
    mean_distance_characters: list[float] = Field(
        description="From a query back to what it reads, in characters of the text"
    )
    first_token_mass: list[float] = Field(description="Weight on the first token, the sink")
    neuron_sparsity: list[float] = Field(
        description="Hoyer's measure of the neurons' activation: 0 all alike, 1 a single one"
    )


class RelevanceAgreement(Contract):
    """How alike two models rank the same characters of a text by relevance.

    A token's relevance is its share of each analysed layer's, in magnitude, mean over these layers;
    a character has that of its tokens, spread evenly over their characters.
    """

    text_index: int
    method: Method
    models: tuple[str, str]
    targets: tuple[str, str] = Field(
        description="The token whose logit each explains; where they differ, so may the reasons"
    )
    characters: int = Field(description="That both models have a token for")
    spearman: float | None = Field(
        description="Rank correlation over these characters; null where one of them has no order"
    )
    overlap: float | None = Field(
        description="Share of the relevance that both put on the same of these characters: 0 none, "
        "1 all; null where one of them has no relevance"
    )


class Comparison(Contract):
    """Every model of a job side by side; one that no method reads has no profile."""

    models: list[str]
    profiles: list[DepthProfile] = Field(description="One per model and method")
    agreements: list[RelevanceAgreement] = Field(
        description="One per text, method and pair of models"
    )
    artifacts: list[str] = Field(default_factory=list)
