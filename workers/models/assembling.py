"""From config.json and tensors to a model that has exactly these: none missing, none invented."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from transformers.utils import logging as transformers_logging

from catalogue.files import CONFIG_FILE
from catalogue.native import as_transformers, is_native
from catalogue.weights import invalid
from workers.mixers.attention_calls import IMPLEMENTATION, register
from workers.models.refusing import first_line, unsupported

# Keys of config.json that would make the library run code, fetch files or change the weights.
_REFUSED = {
    "auto_map": "asks for code of its own, which is never run",
    "quantization_config": "is quantised; save it in float32, bfloat16 or float16",
    "transformers_weights": "takes its weights from another file; name it model.safetensors",
    "fusion_config": "asks for fused modules; remove the key",
}
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation")
# What a config with values of the wrong type or size makes the library raise.
_CONFIG_ERRORS = (
    StrictDataclassError,
    ValueError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    OSError,
)
# A config this far beyond its weights would only fill the memory before it is refused.
_SPARE_PARAMETERS = 1 << 26
# Far above any real model: what the library writes out layer by layer would only fill the memory.
_MOST_LAYERS = 10_000
# Tensors that a message names.
_NAMED = 6


def read_config(path: Path, name: str) -> Any:
    """The config, of an architecture that has a causal language model.

    Raises ProblemError (model-invalid, unsupported-architecture).
    """
    try:
        written = json.loads((path / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise invalid(name, f"its {CONFIG_FILE} cannot be read: {first_line(error)}") from error
    raw = as_transformers(written, name)
    for key, why in _REFUSED.items():
        if raw.get(key) is not None:
            raise invalid(name, f"its {CONFIG_FILE} {why} (`{key}`)")
    if _repeats(raw.get("attention_types")) > _MOST_LAYERS:
        raise invalid(name, f"its {CONFIG_FILE} has `attention_types` for too many layers")
    for key in _ATTENTION_KEYS:
        if raw.get(key) not in (None, "eager", "sdpa"):
            raise invalid(name, f"its {CONFIG_FILE} sets `{key}`; remove it")
    if raw["model_type"] not in CONFIG_MAPPING:
        raise unsupported(name, f"nothing here knows the model_type {raw['model_type'][:80]!r}")
    try:
        if is_native(written):
            config = AutoConfig.for_model(**raw)
        else:
            config = AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
    except _CONFIG_ERRORS as error:
        raise invalid(name, f"its {CONFIG_FILE} is refused: {_reason(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise unsupported(name, f"{config.model_type} is no causal language model")
    return config


def assemble(name: str, config: Any, tensors: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """The model with exactly these tensors, in evaluation mode.

    Raises ProblemError (model-invalid): a tensor is missing, left over, of another shape, no real
    numbers, or not what the model then holds.
    """
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    # The library's progress bars and advice do not belong in a worker's log; errors do.
    register()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # The library rescales weights for this key even where it is given them.
    config.rescale_prenorm_residual = False
    before = {key: _bits(tensor) for key, tensor in tensors.items()}
    try:
        model, info = architecture.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=dtype,
            # An architecture that calls no function of the registry keeps its own masks too.
            attn_implementation=IMPLEMENTATION if _calls_attention(architecture) else None,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except KeyError as error:
        if error.args != (IMPLEMENTATION,):
            raise unsupported(name, f"the library cannot build it: {first_line(error)}") from error
        why = "its attention keeps to a list of functions of its own, not to the library's registry"
        raise unsupported(name, why) from error
    except _CONFIG_ERRORS as error:
        raise unsupported(name, f"the library cannot build it: {first_line(error)}") from error
    if info["mismatched_keys"]:
        shapes = [f"{key} ({list(a)}, not {list(b)})" for key, a, b in info["mismatched_keys"]]
        raise invalid(name, f"these weights do not fit its {CONFIG_FILE}: {_some(shapes)}")
    if info["missing_keys"]:
        what = f"its weights lack what its {CONFIG_FILE} describes"
        raise invalid(name, f"{what}: {_some(info['missing_keys'])}")
    if info["unexpected_keys"]:
        what = f"its weights hold what its {CONFIG_FILE} does not describe"
        raise invalid(name, f"{what}: {_some(info['unexpected_keys'])}")
    # Anything but real numbers would be cast: half of a complex one is lost without a word.
    unreal = [
        f"{key} ({str(tensors[key].dtype).removeprefix('torch.')})"
        for key, _ in model.named_parameters()
        if key in tensors and not tensors[key].is_floating_point()
    ]
    if unreal:
        raise invalid(name, f"these weights are no real numbers: {_some(unreal)}")
    state = model.state_dict()
    changed = [
        key
        for key, tensor in tensors.items()
        # A weight may share the memory of what was read, and change with it.
        if _bits(tensor) != before[key] or _differs(tensor, state.get(key))
    ]
    if changed:
        raise invalid(name, f"the library changes these of its weights: {_some(changed)}")
    return model.eval()


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's bits read as whole numbers, which any change of its values changes."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    kind = whole.get(tensor.element_size())
    return 0 if kind is None else int(tensor.contiguous().view(kind).sum(dtype=torch.int64))


def _differs(stored: Tensor, held: Tensor | None) -> bool:
    """Whether the model's weight of this name is another; one of no such name cannot be told."""
    if held is None:
        return False
    stored = stored.to(held.dtype)
    # Only NaN, which equals nothing, is worth the memory of the second question.
    return not (
        torch.equal(held, stored) or torch.allclose(held, stored, rtol=0, atol=0, equal_nan=True)
    )


def _repeats(types: Any) -> int:
    """How many layers GPT-Neo's `attention_types` name: pairs of words and how often they come."""
    found = types if isinstance(types, list) else []
    pairs = [pair for pair in found if isinstance(pair, list) and len(pair) == 2]
    return sum(count for _, count in pairs if isinstance(count, int))


def _calls_attention(architecture: Any) -> bool:
    """Whether an architecture's attention goes through the library's registry of functions."""
    return bool(architecture._supports_sdpa or architecture._supports_attention_backend)


def check_size(name: str, config: Any, layers: int, tensors: dict[str, Tensor]) -> None:
    """Build the model without memory, and refuse one far larger than its weights.

    Raises ProblemError (model-invalid).
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    if layers > len(tensors):
        raise invalid(
            name,
            f"its {CONFIG_FILE} has {layers} layers, but its weights are {len(tensors)} tensors",
        )
    try:
        with torch.device("meta"):
            empty = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    except _CONFIG_ERRORS as error:
        raise invalid(name, f"its {CONFIG_FILE} is refused: {_reason(error)}") from error
    described = sum(parameter.numel() for parameter in empty.parameters())
    if described > 2 * held + _SPARE_PARAMETERS:
        raise invalid(
            name,
            f"its {CONFIG_FILE} describes {described} parameters, but its weights hold {held}",
        )


def _reason(error: Exception) -> str:
    """What a config's own check said: the whole of it, for its first line names only the field."""
    if isinstance(error, StrictDataclassError):
        return " ".join(str(error).split())[:300].rstrip(".")
    return first_line(error)


def _some(names: Any) -> str:
    """The first few names, and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more
