"""What the service says about models."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from schemas.base import Contract
from schemas.names import Block, Dtype, Method, Mixer

# Bundled, a directory of `model_dir`, or fetched by its Hugging Face id.
Source = Literal["pocket", "directory", "hugging-face"]


class ModelSummary(Contract):
    """One line of `GET /v1/models`."""

    id: str
    source: Source
    default: bool = Field(description="Whether a request that names no model means this one")
    href: str = Field(description="Path of its description on this service")
    resident_on: list[str] = Field(
        default_factory=list, description="Workers that hold the model in memory"
    )


class ModelList(Contract):
    """`GET /v1/models`: what can be named in a request."""

    models: list[ModelSummary] = Field(description="Models that lie on this service's disk")
    allowed_hugging_face_ids: list[str] = Field(description="Patterns of ids that may be asked for")


class LayerDescription(Contract):
    """One layer: its mixer, the methods that apply to it, and how many neurons it has."""

    layer: int
    mixer: Mixer
    beside: Mixer | None = Field(
        default=None, description="Another mixer of the same layer, which no method reads; or null"
    )
    methods: list[Method]
    channels: int | None = Field(
        default=None, description="Channels of the mixer, each of them a neuron; null without one"
    )
    mlp_neurons: int | None = Field(
        default=None,
        description="Neurons of its MLP; 0 without one, null where the config does not tell, as of "
        "experts",
    )
    heads: int | None = Field(
        default=None, description="Heads that group the channels; null where each is its own"
    )
    groups: int | None = Field(
        default=None, description="Groups of heads that share B and C; null but for SSD"
    )
    d_state: int | None = Field(
        default=None, description="States of a channel or head; null where it has none"
    )

    def neurons_of(self, block: Block) -> int | None:
        """How many neurons a block has: 0 without it, None where the config does not tell."""
        if block is Block.MLP:
            return self.mlp_neurons
        return 0 if self.mixer is Mixer.NONE else self.channels


class ModelDescription(Contract):
    """`GET /v1/models/{id}`, read from the model's config, without loading weights."""

    id: str
    source: Source
    architecture: str = Field(description="`model_type` of the config")
    layers: list[LayerDescription]
    hidden_size: int = Field(description="d_model")
    channels: int | None = Field(description="d_inner of the state-space mixers; null without them")
    d_state: int | None = Field(description="States per channel or head; null likewise")
    dt_rank: int | None = Field(
        description="Rank of the projection that makes Delta; null without S6 mixers"
    )
    mlp_channels: int | None = Field(
        default=None, description="MLP neurons that a token passes in a layer; null without MLPs"
    )
    window: int | None = Field(
        default=None,
        description="Tokens that attention with a sliding window reads back; null without one",
    )
    vocab_size: int
    parameters: int | None = Field(
        description="Numbers in its weights; null while the files cannot be read"
    )
    stored_bytes: int | None = Field(description="Bytes of its weights as stored; null likewise")
    dtype: Dtype = Field(description="What its weights are widened or rounded to when it is loaded")
    max_tokens: int = Field(description="Longest text, in tokens, of which any matrix can be read")
    max_row_tokens: int = Field(
        description="Longest text, in tokens, where only the target's row is read "
        "(`attention.rows` is `target`, or `attention` null)"
    )
    default_layers: list[int] = Field(description="What `layers: null` means for this model")
    resident_on: list[str] = Field(description="Workers that hold the model in memory")

    def neurons_at_most(self, layer: int, block: Block) -> int:
        """Neurons of a block; of an MLP untold by the config, as many as a token passes."""
        known = self.layers[layer].neurons_of(block)
        if known is None and block is Block.MLP:
            known = self.mlp_channels
        return known or 0

    def layers_with(self, methods: Collection[Method]) -> set[int]:
        """The layers whose mixer all of the methods can read."""
        return {known.layer for known in self.layers if set(methods) <= set(known.methods)}


class MethodDescription(Contract):
    """One method by which hidden attention is read."""

    name: Method
    description: str
    formula: str = Field(
        description="Of its matrix M and the relevance of token s for a target at tau"
    )
    citations: list[str]
    cost: str = Field(description="Of a text of L tokens")
    needs_gradient: bool = Field(description="Whether it needs a backward pass from the target")
    default: bool = Field(description="Whether a request that names no methods means it too")


class MethodList(Contract):
    """`GET /v1/methods`."""

    methods: list[MethodDescription]


class Health(Contract):
    """`GET /healthz`."""

    status: Literal["alive"] = "alive"
    version: str


class Readiness(Contract):
    """`GET /readyz`."""

    status: Literal["ready"] = "ready"
    store: Literal["answers"] = "answers"
    workers: int = Field(description="Workers that are alive and ready")
