"""Every name that stands in a request, a result or a URL, written once."""

from enum import StrEnum

API_VERSION = "v1"
JOBS_PATH = f"/{API_VERSION}/jobs"
MODELS_PATH = f"/{API_VERSION}/models"
RESULT_SCHEMA_VERSION = "1"
PROBLEM_BASE = "urn:mambascope:problem:"
DEFAULT_MODEL = "pocket/recall-mamba"
# 24 to 64 bytes in base64, with or without padding, as Standard Webhooks 1.0 has it.
_BASE64 = r"[A-Za-z0-9+/]"
WEBHOOK_SECRET = (
    rf"^whsec_({_BASE64}{{4}}){{8,20}}"
    rf"({_BASE64}{{4}}|{_BASE64}{{2}}(==)?|{_BASE64}{{3}}=?|{_BASE64}{{6}}(==)?)?$"
)


class Status(StrEnum):
    """Where a job stands. `running -> queued` happens when its worker died or was stopped."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class Departure(StrEnum):
    """Why a job is there no more."""

    DELETED = "deleted"
    EXPIRED = "expired"
    EVICTED = "evicted"


class Happening(StrEnum):
    """The kinds of events of a job."""

    STATUS = "status"
    PROGRESS = "progress"


class Method(StrEnum):
    """How a layer's hidden attention is read."""

    ATTENTION_WEIGHTED = "attention_weighted"
    GRADIENT_GUIDED = "gradient_guided"
    ROLLOUT = "rollout"
    CONTRIBUTION = "contribution"


DEFAULT_METHODS = (Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED, Method.ROLLOUT)
NEEDS_GRADIENT = frozenset({Method.GRADIENT_GUIDED, Method.CONTRIBUTION})


class Mixer(StrEnum):
    """The family of a layer's token mixer."""

    S6 = "s6"
    SSD = "ssd"
    SOFTMAX = "softmax"
    NONE = "none"


class Block(StrEnum):
    """The block of a layer that a neuron belongs to."""

    MIXER = "mixer"
    MLP = "mlp"


class Section(StrEnum):
    """The sections of a request that have figures."""

    ATTENTION = "attention"
    NEURONS = "neurons"
    KNOWLEDGE_NEURONS = "knowledge_neurons"
    PERTURBATION = "perturbation"
    UNIVERSALITY = "universality"


class Ranking(StrEnum):
    """What the neurons of a block are ranked by."""

    VARIANCE = "variance"
    TEXT_VARIANCE = "text_variance"
    DELTA_VARIANCE = "delta_variance"
    POSITION_CORRELATION = "position_correlation"
    POSITION_INFORMATION = "position_information"
    ATTRIBUTION = "attribution"


class Intervening(StrEnum):
    """What may be done to a neuron."""

    ZERO = "zero"
    MEAN = "mean"
    NOISE = "noise"
    SCALE = "scale"


class Dtype(StrEnum):
    """The type of numbers that a model runs in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return 4 if self is Dtype.FLOAT32 else 2


class Stage(StrEnum):
    """What a running job is doing."""

    LOADING = "loading"
    TRACING = "tracing"
    ANALYSING = "analysing"
    INTERVENING = "intervening"
    DRAWING = "drawing"
    STORING = "storing"


class ArtifactKind(StrEnum):
    """What an artifact is."""

    RESULT = "result"
    FIGURE = "figure"
    TENSORS = "tensors"


RESULT_FILE = "result.json"
TENSORS_FILE = "tensors.safetensors"
