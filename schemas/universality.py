"""What a result says of several models' neurons against each other."""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Block
from schemas.sections import NeuronRef


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
