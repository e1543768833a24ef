"""Settings, read from the environment, MAMBASCOPE_<FIELD>, once at a process's start."""

import ipaddress
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    SecretStr,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.names import WEBHOOK_SECRET, Dtype

MIB = 2**20
GIB = 2**30
DAY = 24 * 3600
DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"


def _separated(value: Any) -> Any:
    """A comma-separated list as its parts."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _webhook_secret(value: SecretStr) -> SecretStr:
    if re.fullmatch(WEBHOOK_SECRET, value.get_secret_value()) is None:
        raise ValueError("give `whsec_` and base64 of 24 to 64 bytes")
    return value


class ModelSettings(BaseModel):
    """How one model runs; what is left out is as for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str | None = Field(default=None, pattern=DEVICE)
    dtype: Dtype = Dtype.FLOAT32
    reconstruction_tolerance: float | None = Field(default=None, gt=0, lt=1)


def _by_model(value: Any) -> Any:
    """A JSON object of settings by model as its pairs."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return tuple(found.items()) if isinstance(found, dict) else found


class Settings(BaseSettings):
    """How this installation runs. Sizes in bytes and times in seconds unless the name says more."""

    model_config = SettingsConfigDict(env_prefix="MAMBASCOPE_", frozen=True, extra="ignore")

    redis_url: SecretStr = Field(default=SecretStr("redis://127.0.0.1:6379/0"))
    key_prefix: str = Field(default="mambascope", pattern=r"^[A-Za-z0-9_-]+$")
    data_dir: Path = Path(".mambascope")
    model_dir: DirectoryPath | None = None
    hugging_face_ids: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = (
        "state-spaces/mamba-*",
        "state-spaces/mamba2-*",
        "gpt2",
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    allow_remote: bool = Field(
        default=False, description="Listen on an address that other machines reach"
    )

    max_body_bytes: int = Field(default=4 * MIB, gt=0)
    body_time_limit: int = Field(default=30, gt=0, description="For a request's body to arrive")
    max_texts: int = Field(default=10_000, gt=0)
    max_tokens: int = Field(default=4096, gt=0, description="Per text, where matrices are read")
    max_row_tokens: int = Field(
        default=131072, gt=0, description="Per text, where only the target's row is read"
    )
    max_total_tokens: int = Field(
        default=131072,
        gt=0,
        description="Over all texts of a job, and over its facts' prompts times their `steps`",
    )
    max_perturbed_tokens: int = Field(
        default=2**21, gt=0, description="That pass under all conditions of `perturbation`"
    )
    job_memory_bytes: int = Field(
        default=8 * GIB, gt=0, description="For one job: the model, activations, matrices, tensors"
    )
    max_tensor_bytes: int = Field(
        default=1024 * MIB, gt=0, description="Of one job's `tensors.safetensors`"
    )
    max_figures: int = Field(default=2000, gt=0, description="Of one job; each about 0.1 s")
    max_contribution_tokens: int = Field(
        default=512, gt=0, description="Per text when `contribution` reads all rows"
    )

    result_ttl: int = Field(
        default=7 * DAY, ge=0, description="Jobs that have ended are kept so long; 0: for ever"
    )
    tombstone_ttl: int = Field(
        default=30 * DAY,
        gt=0,
        description="How long a job that is gone is told from an unknown one",
    )
    max_stored_bytes: int | None = Field(
        default=None, gt=0, description="Of all artifacts; above it the oldest go. Null: no limit"
    )
    max_wait: int = Field(default=60, ge=0, description="The longest `?wait=`")
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = Field(
        default=(), description="Whose pages may use this service from a browser; `*`: all"
    )

    webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = Field(
        default=None, description="Signs the webhooks of jobs that bring no secret"
    )
    webhook_timeout: int = Field(default=15, gt=0, description="For a receiver to answer")
    allow_private_webhooks: bool = Field(
        default=False, description="Also to loopback, private and link-local addresses"
    )

    job_time_limit: int = Field(default=1800, gt=0)
    kill_grace: int = Field(
        default=15, gt=0, description="Between the cooperative stop and SIGKILL"
    )
    max_deaths: int = Field(default=3, gt=0)
    jobs_together: int = Field(
        default=16, gt=0, description="Small queued jobs that share a pass through the model"
    )
    lease_seconds: int = Field(default=15, gt=2, description="A silent worker's job is taken back")

    device: str = Field(
        default="auto",
        pattern=DEVICE,
        description="auto | cpu | cuda | cuda:N",
    )
    threads: int | None = Field(
        default=None, gt=0, description="CPU threads of one worker; null means every core"
    )
    resident_models: int = Field(default=4, gt=0, description="Models one worker keeps in memory")
    reconstruction_tolerance: float = Field(default=1e-4, gt=0, lt=1)
    models: Annotated[
        tuple[tuple[str, ModelSettings], ...], NoDecode, BeforeValidator(_by_model)
    ] = Field(
        default=(),
        description="JSON: device, dtype and reconstruction_tolerance by model name or pattern",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = "INFO"

    @property
    def must_ask_for_keys(self) -> bool:
        """Whether other machines reach the service, and not all of them may use it."""
        return not self.allow_remote and not is_loopback(self.host)

    def for_model(self, name: str) -> ModelSettings:
        """What is set for a model: the first of `models` whose pattern fits its name."""
        fits = (chosen for pattern, chosen in self.models if fnmatchcase(name, pattern))
        return next(fits, ModelSettings())

    def tolerance_of(self, name: str) -> float:
        """The tolerance of a model's self-checks."""
        return self.for_model(name).reconstruction_tolerance or self.reconstruction_tolerance


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name but `localhost` counts as remote."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
