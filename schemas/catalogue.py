"""What the service says about models."""

from pydantic import Field

from schemas.base import Contract
from schemas.names import Method, Mixer


class ModelSummary(Contract):
    """One line of `GET /v1/models`."""

    id: str
    source: str = Field(description="pocket | directory | hugging-face")
    default: bool
    href: str = ""


class ModelPatterns(Contract):
    """`GET /v1/models`: what can be named in a request."""

    models: list[ModelSummary] = Field(description="Models that lie on this service's disk")
    allowed_hugging_face_ids: list[str] = Field(description="Patterns of ids that may be asked for")


class LayerDescription(Contract):
    """The mixer of one layer and the methods that apply to it."""

    layer: int
    mixer: Mixer
    methods: list[Method]


class ModelDescription(Contract):
    """`GET /v1/models/{id}`, read from the model's config, without loading weights."""

    id: str
    source: str
    architecture: str = Field(description="`model_type` of the config")
    layers: list[LayerDescription]
    hidden_size: int
    channels: int | None = Field(description="d_inner of the S6 mixers; null without them")
    d_state: int | None
    vocab_size: int
    max_tokens: int = Field(description="Longest text accepted, in tokens")
    default_layers: list[int] = Field(description="What `layers: null` means for this model")
    resident_on: list[str] = Field(description="Workers that hold the model in memory")


class Health(Contract):
    """`GET /healthz`."""

    status: str = "alive"
    version: str


class Readiness(Contract):
    """`GET /readyz`."""

    status: str = "ready"
    store: str
    workers: int = Field(description="Workers that are alive and ready")
