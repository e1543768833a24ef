"""The analysis request. Everything but `texts` has a default."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from schemas.base import Contract
from schemas.names import DEFAULT_MODEL, WEBHOOK_SECRET
from schemas.sections import (
    AttentionSection,
    KnowledgeNeuronSection,
    Layers,
    NeuronSection,
    PerturbationSection,
    Text,
    UniversalitySection,
    layers_once,
)

ModelName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
]

MAX_METADATA_KEYS = 32


class Target(Contract):
    """The scalar being explained: a logit, or the difference of two."""

    position: int = Field(
        default=-1,
        strict=True,
        description="Token whose next-token logits are read; negative counts from the end",
    )
    token: str | None = Field(
        default=None,
        min_length=1,
        description="The explained next token, exactly one; null: the model's own top token",
    )
    contrast: str | None = Field(
        default=None, min_length=1, description="A token whose logit is subtracted; null: none"
    )


class Webhook(Contract):
    """Who is told when the job has ended, as Standard Webhooks 1.0 has it."""

    url: str = Field(
        max_length=2000,
        pattern=r"^https?://[^\s/?#]+[^\s#]*$",
        description="Is sent a POST, signed, once the job has ended; again until it answers 2xx",
        examples=["https://example.org/mambascope"],
    )
    secret: str | None = Field(
        default=None,
        max_length=200,
        pattern=WEBHOOK_SECRET,
        description="`whsec_` and base64 of 24 to 64 bytes, which sign what is sent; never shown "
        "again. Null: the secret of this installation",
    )


class JobRequest(Contract):
    """What to analyse. `{"texts": ["..."]}` is a whole request."""

    models: list[ModelName] = Field(
        default=[DEFAULT_MODEL],
        min_length=1,
        max_length=8,
        description="Each reads every text; `GET /v1/models` says which there are",
    )
    texts: list[Text] = Field(
        min_length=1,
        description="Each is read by itself, and none is cut; neurons are measured over all",
    )
    layers: Layers = Field(
        default=None,
        description="Layer indices, `all`, or null for four evenly spaced layers; "
        "`attention` may have others",
    )
    target: Target = Target()
    attention: AttentionSection | None = Field(
        default=AttentionSection(), description="Null: no hidden attention, the target only"
    )
    neurons: NeuronSection | None = Field(
        default=NeuronSection(), description="Null: the neurons are not measured"
    )
    knowledge_neurons: KnowledgeNeuronSection | None = Field(
        default=None, description="Null: no facts are looked for"
    )
    perturbation: PerturbationSection | None = Field(
        default=None, description="Null: nothing is intervened on"
    )
    universality: UniversalitySection | None = Field(
        default=None, description="Null: the models' neurons are not compared"
    )
    figures: bool = Field(default=True, strict=True, description="Draw PNG figures")
    tensors: bool = Field(
        default=False, strict=True, description="Store matrices and vectors as safetensors"
    )
    webhook: Webhook | None = Field(
        default=None, description="Null: nobody is told when the job has ended"
    )
    reuse: bool = Field(
        default=True,
        strict=True,
        description="Whether the result of an equal job may be served; false: compute it anew",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        max_length=MAX_METADATA_KEYS,
        description="Yours: kept with the job and not looked at",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        strict=True,
        description="Of what is drawn at random: sets of neurons, noise, rotations, bootstraps",
    )

    @field_validator("models")
    @classmethod
    def _models_once(cls, models: list[str]) -> list[str]:
        if len(set(models)) != len(models):
            raise ValueError("name each model once")
        return models

    _layers_once = field_validator("layers")(layers_once)


def select_layers(asked: list[int] | Literal["all"] | None, count: int) -> list[int]:
    """The layers a request means in a model of `count` layers, ascending.

    Null means four evenly spaced layers: 24 layers give 0, 6, 12, 18.
    """
    if asked is None:
        return sorted({i * count // 4 for i in range(4)})
    if asked == "all":
        return list(range(count))
    return sorted(asked)
