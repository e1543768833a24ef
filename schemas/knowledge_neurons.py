"""What a result says of the neurons that carry facts, of each model."""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Block

MOST_KNOWLEDGE_NEURONS = 1000
"""How many neurons of one fact are listed at most."""


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
