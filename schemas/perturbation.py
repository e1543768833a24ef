"""What a result says of a model whose neurons are changed."""

from pydantic import Field

from schemas.base import Contract
from schemas.interval import Interval
from schemas.names import Method, Ranking
from schemas.sections import Intervention, KnowledgeNeurons, NeuronRef


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
