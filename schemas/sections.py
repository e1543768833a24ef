"""The sections of a request: what is to be found out, and how. A section of null is left out."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from schemas.base import Contract
from schemas.names import DEFAULT_METHODS, Block, Intervening, Method, Ranking


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is blank: give at least one word")
    return text


Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
Rows = Literal["target", "all"]
LayerIndex = Annotated[int, Field(ge=0, strict=True)]
Layers = list[LayerIndex] | Literal["all"] | None
KnowledgeNeurons = Literal["knowledge_neurons"]
Blocks = Annotated[list[Block], Field(min_length=1)]

# Neurons of two models are compared over no fewer tokens: chance alone correlates too well there.
FEWEST_SHARED_TOKENS = 16


def layers_once(layers: Any) -> Any:
    """The layers, as they are. Raises ValueError: none, or one named twice."""
    if isinstance(layers, list):
        if not layers:
            raise ValueError("name at least one layer, or leave `layers` out")
        if len(set(layers)) != len(layers):
            raise ValueError("name each layer once")
    return layers


class AttentionSection(Contract):
    """Which methods read the hidden attention, and how."""

    methods: list[Method] = Field(default=list(DEFAULT_METHODS), min_length=1)
    layers: Layers = Field(
        default=None, description="Layer indices, `all`, or null for the request's `layers`"
    )
    rows: Rows | None = Field(
        default=None,
        description="Rows of each method's matrix: the target position's only (`target`), every "
        "query position's (`all`), or null: all, but of `contribution` the target's",
    )
    rollout_clamp: bool = Field(
        strict=True,
        default=True,
        description="Set negative weights to 0 before the rows are normalised in `rollout`",
    )

    @field_validator("methods")
    @classmethod
    def _no_repeats(cls, methods: list[Method]) -> list[Method]:
        if len(set(methods)) != len(methods):
            raise ValueError("name each method once")
        return methods

    _layers_once = field_validator("layers")(layers_once)

    def rows_of(self, method: Method) -> Rows:
        """Which rows of one method's matrix are meant."""
        if self.rows is not None:
            return self.rows
        return "target" if method is Method.CONTRIBUTION else "all"


class NeuronSection(Contract):
    """How the neurons are measured, over all tokens of all texts, and ranked."""

    top_k: int = Field(
        default=10, ge=1, le=1000, strict=True, description="Length of each ranking, at most"
    )
    blocks: Blocks | None = Field(
        default=None, description="Which blocks' neurons are measured; null: all that there are"
    )
    active_above: float = Field(
        strict=True,
        default=0.01,
        ge=0,
        description="A neuron is active at a token where its magnitude is above this",
    )
    rare_below: float = Field(
        strict=True,
        default=0.01,
        ge=0,
        le=1,
        description="A neuron is rare if it is active at a smaller share of the tokens than this",
    )
    top_tokens: int = Field(
        default=10,
        ge=1,
        le=100,
        strict=True,
        description="Tokens of the largest activations that are kept of each neuron",
    )
    context: int = Field(
        default=5,
        ge=0,
        le=50,
        strict=True,
        description="Tokens shown before and after each of them",
    )
    ngram: int = Field(
        default=3,
        ge=1,
        le=8,
        strict=True,
        description="Longest sequence of tokens that is looked for as a neuron's trigger",
    )
    attribution: bool | None = Field(
        default=None,
        strict=True,
        description="Gradient times activation toward the target, which needs a backward pass; "
        "null: at the layers where a method of the attention needs the gradient anyway",
    )


class Fact(Contract):
    """Something a model may know: a prompt and the answer that should follow it."""

    prompt: Text
    answer: str = Field(
        min_length=1,
        description="What follows the prompt, exactly as it is appended: give the space before it",
    )
    paraphrases: list[Text] = Field(
        default=[], max_length=32, description="Other prompts that the same answer follows"
    )


class KnowledgeNeuronSection(Contract):
    """Which neurons carry each fact (Dai et al. 2022)."""

    facts: list[Fact] = Field(min_length=1, max_length=64)
    blocks: Blocks | None = Field(
        default=None, description="Which blocks' neurons are looked at; null: all that there are"
    )
    positions: Literal["last", "all"] = Field(
        default="last",
        description="Where a neuron counts: at the tokens that the answer is read from (`last`), "
        "or at every token (`all`)",
    )
    steps: int = Field(
        default=20, ge=1, le=500, strict=True, description="Points of the integrated gradient"
    )
    threshold: float = Field(
        strict=True,
        default=0.2,
        gt=0,
        le=1,
        description="A prompt names the neurons with at least this share of its largest "
        "attribution",
    )
    share: float = Field(
        strict=True,
        default=0.7,
        gt=0,
        le=1,
        description="A fact's neurons are those that at least this share of its prompts name",
    )


class NeuronRef(Contract):
    """One neuron of a model."""

    layer: LayerIndex
    block: Block = Block.MIXER
    neuron: int = Field(ge=0, strict=True)


class NeuronSet(Contract):
    """Neurons to intervene on together: given one by one, or those that something found."""

    neurons: list[NeuronRef] | None = Field(
        default=None, min_length=1, max_length=10_000, description="Given one by one"
    )
    found_by: Ranking | Method | KnowledgeNeurons | None = Field(
        default=None,
        description="Found by a ranking of `neurons`, by `knowledge_neurons`, or by a method of "
        "`attention` (its importance, else its activation, over all texts)",
    )
    count: int = Field(
        default=10,
        ge=1,
        le=10_000,
        strict=True,
        description="How many of those that were found, the strongest first, over all layers",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "NeuronSet":
        if (self.neurons is None) == (self.found_by is None):
            raise ValueError("give either `neurons` or `found_by`")
        return self


class Intervention(Contract):
    """What is done to the neurons of a set, at every token."""

    kind: Intervening
    std: float = Field(
        strict=True,
        default=1.0,
        gt=0,
        description="`noise`: standard deviation, in each neuron's own over the texts",
    )
    factor: float = Field(
        strict=True, default=0.0, description="`scale`: what the activation is multiplied by"
    )


class PerturbationSection(Contract):
    """What changes when neurons are changed, beside as many neurons drawn at random."""

    sets: list[NeuronSet] = Field(min_length=1, max_length=16)
    interventions: list[Intervention] = Field(
        default=[Intervention(kind=Intervening.ZERO)], min_length=1, max_length=16
    )
    control_texts: list[Text] = Field(
        default=[],
        max_length=64,
        description="Texts that the neurons should have nothing to do with",
    )
    random_sets: int = Field(
        default=20,
        ge=2,
        le=200,
        strict=True,
        description="Sets of the same size, layer by layer, drawn at random from `seed`",
    )


class UniversalitySection(Contract):
    """Which neurons of one model another model has as well (Gurnee et al. 2024)."""

    max_tokens: int = Field(
        default=4096,
        ge=FEWEST_SHARED_TOKENS,
        le=65_536,
        strict=True,
        description="Tokens that all models share and that are compared, evenly spread",
    )
    blocks: Blocks | None = Field(
        default=None, description="Which blocks' neurons are compared; null: all that there are"
    )
    threshold: float = Field(
        strict=True,
        default=0.5,
        gt=0,
        le=2,
        description="A neuron is universal where its excess correlation is above this",
    )
