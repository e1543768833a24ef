"""What a model's config.json and its weights' headers say about it; no weights are read."""

import json
from pathlib import Path
from typing import Any

from catalogue.files import CONFIG_FILE
from catalogue.locate import Location
from catalogue.native import as_transformers
from catalogue.weights import WeightsSize, weights_size
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Method, Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.request import select_layers
from schemas.settings import Settings

# model_type -> the mixer that every layer of it carries. A type that is not listed has no
# token mixer that this version can name.
_MIXERS = {
    "mamba": Mixer.S6,
    "mamba2": Mixer.SSD,
    **dict.fromkeys(
        ("gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "opt", "phi", "qwen2", "qwen3"),
        Mixer.SOFTMAX,
    ),
}
_METHODS = {Mixer.S6: list(Method)}

# Where configs keep the same fact under different keys.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
# Far above any real model; a config that claims more would only fill the memory.
_MOST_LAYERS = 10_000


def describe(location: Location, settings: Settings) -> ModelDescription:
    """The description of a model on disk.

    The settings limit the tokens of a text; the model's own limit, where it has one, can only lower
    that. Only an S6 mixer has rows in linear time, so only it may read longer texts by them. Raises
    ProblemError(MODEL_INVALID) when the config is missing or broken, and what `as_transformers`
    raises for one in mamba_ssm's own format; weights that are broken leave their size out.
    """
    config = _read(location)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise _invalid(location, "it has no `model_type`")
    count = _positive(location, config, _LAYERS)
    if count > _MOST_LAYERS:
        raise _invalid(location, f"it claims {count} layers; at most {_MOST_LAYERS} are read")
    hidden = _positive(location, config, _HIDDEN)
    mixer = _MIXERS.get(model_type, Mixer.NONE)
    methods = _METHODS.get(mixer, [])
    is_s6 = mixer is Mixer.S6
    longest, longest_rows = _limits(location, config, settings, linear=is_s6)
    weights = _weights(location)
    return ModelDescription(
        id=location.name,
        source=location.source,
        architecture=model_type,
        layers=[LayerDescription(layer=i, mixer=mixer, methods=methods) for i in range(count)],
        hidden_size=hidden,
        channels=_channels(location, config, hidden) if is_s6 else None,
        d_state=_positive(location, config, ("state_size",)) if is_s6 else None,
        dt_rank=_rank(location, config, hidden) if is_s6 else None,
        vocab_size=_positive(location, config, ("vocab_size",)),
        parameters=None if weights is None else weights.parameters,
        stored_bytes=None if weights is None else weights.stored_bytes,
        max_tokens=longest,
        max_row_tokens=longest_rows,
        default_layers=select_layers(None, count),
        resident_on=[],
    )


def _read(location: Location) -> dict[str, Any]:
    if location.path is None:
        raise ProblemError(
            ProblemType.MODEL_UNAVAILABLE,
            f"The files of `{location.name}` are not on this disk yet.",
        )
    path: Path = location.path / CONFIG_FILE
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _invalid(location, "the file is missing") from None
    except OSError as error:
        raise _invalid(location, f"the file cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _invalid(location, "the file is not JSON") from None
    if not isinstance(config, dict):
        raise _invalid(location, "it is not a JSON object")
    return as_transformers(config, location.name)


def _has(config: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return any(config.get(key) is not None for key in keys)


def _positive(location: Location, config: dict[str, Any], keys: tuple[str, ...]) -> int:
    """The first of `keys` that the config holds, which must be a whole number above 0."""
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        raise _invalid(location, f"`{key}` must be a whole number above 0")
    raise _invalid(location, f"it has no `{keys[0]}`")


def _channels(location: Location, config: dict[str, Any], hidden: int) -> int:
    """d_inner: `intermediate_size`, which transformers puts before `expand` times hidden size.

    `expand` may be a fraction.
    """
    if config.get("intermediate_size") is not None:
        return _positive(location, config, ("intermediate_size",))
    expand = config.get("expand")
    if isinstance(expand, int | float) and not isinstance(expand, bool):
        channels = expand * hidden
        if 1 <= channels < float("inf"):
            return int(channels)
    raise _invalid(location, "`expand` must be a number above 0")


def _rank(location: Location, config: dict[str, Any], hidden: int) -> int:
    """The rank of Delta's projection; left out or `auto`, it is a sixteenth of the hidden size."""
    if config.get("time_step_rank") in (None, "auto"):
        return -(-hidden // 16)
    return _positive(location, config, ("time_step_rank",))


def _limits(
    location: Location, config: dict[str, Any], settings: Settings, linear: bool
) -> tuple[int, int]:
    """Tokens of the longest text, and of the longest of which only a row is read."""
    rows = max(settings.max_tokens, settings.max_row_tokens if linear else 0)
    limits = settings.max_tokens, rows
    if not _has(config, _POSITIONS):
        return limits
    positions = _positive(location, config, _POSITIONS)
    return min(limits[0], positions), min(limits[1], positions)


def _weights(location: Location) -> WeightsSize | None:
    """None for weights that cannot be read, which is for whoever loads them to report."""
    try:
        return None if location.path is None else weights_size(location.path, location.name)
    except ProblemError:
        return None


def _invalid(location: Location, why: str) -> ProblemError:
    return ProblemError(
        ProblemType.MODEL_INVALID,
        f"The {CONFIG_FILE} of `{location.name}` is not usable: {why}.",
    )
