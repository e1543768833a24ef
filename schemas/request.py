"""The analysis request. Everything but `texts` has a default."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from schemas.base import Contract
from schemas.names import DEFAULT_METHODS, DEFAULT_MODEL, Method


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is blank: give at least one word")
    return text


ModelName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
]
Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
Rows = Literal["target", "all"]
LayerIndex = Annotated[int, Field(ge=0, strict=True)]

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


class AttentionSection(Contract):
    """Which methods read the hidden attention, and how."""

    methods: list[Method] = Field(default=list(DEFAULT_METHODS), min_length=1)
    rows: Rows | None = Field(
        default=None,
        description="Rows of each method's matrix: the target position's only (`target`), every "
        "query position's (`all`), or null: all, but of `contribution` the target's",
    )
    rollout_clamp: bool = Field(
        default=True,
        description="Set negative weights to 0 before the rows are normalised in `rollout`",
    )

    @field_validator("methods")
    @classmethod
    def _no_repeats(cls, methods: list[Method]) -> list[Method]:
        if len(set(methods)) != len(methods):
            raise ValueError("name each method once")
        return methods

    def rows_of(self, method: Method) -> Rows:
        """Which rows of one method's matrix are meant."""
        if self.rows is not None:
            return self.rows
        return "target" if method is Method.CONTRIBUTION else "all"


class NeuronSection(Contract):
    """How many neurons the rankings name."""

    top_k: int = Field(
        default=10, ge=1, le=1000, strict=True, description="Length of each ranking, at most"
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
        min_length=1, description="Each is analysed by itself, and none is cut"
    )
    layers: list[LayerIndex] | Literal["all"] | None = Field(
        default=None, description="Layer indices, `all`, or null for four evenly spaced layers"
    )
    target: Target = Target()
    attention: AttentionSection | None = Field(
        default=AttentionSection(), description="Null: no hidden attention, the target only"
    )
    neurons: NeuronSection = NeuronSection()
    figures: bool = Field(default=True, strict=True, description="Draw PNG figures")
    tensors: bool = Field(
        default=False, strict=True, description="Store matrices and vectors as safetensors"
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
        description="Kept in the provenance; no method of this version draws at random",
    )

    @field_validator("models")
    @classmethod
    def _models_once(cls, models: list[str]) -> list[str]:
        if len(set(models)) != len(models):
            raise ValueError("name each model once")
        return models

    @field_validator("layers")
    @classmethod
    def _layers_once(cls, layers: Any) -> Any:
        if isinstance(layers, list):
            if not layers:
                raise ValueError("name at least one layer, or leave `layers` out")
            if len(set(layers)) != len(layers):
                raise ValueError("name each layer once")
        return layers


def select_layers(asked: list[int] | Literal["all"] | None, count: int) -> list[int]:
    """The layers a request means in a model of `count` layers, ascending.

    Null means four evenly spaced layers: 24 layers give 0, 6, 12, 18.
    """
    if asked is None:
        return sorted({i * count // 4 for i in range(4)})
    if asked == "all":
        return list(range(count))
    return sorted(asked)
