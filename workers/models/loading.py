"""Loading a model so that what runs is what lies on disk: every tensor found, none invented.

Weights are read by this package and handed to the architecture's own class, so no other file of the
directory is opened: no code, no adapters, no links to other models. They are safetensors; pickled
ones are read beside a config in mamba_ssm's own format only, by `workers.models.native`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from transformers.utils import logging as transformers_logging

from catalogue.describe import describe
from catalogue.files import CONFIG_FILE, is_native_directory
from catalogue.locate import Location
from catalogue.native import as_transformers, is_native
from catalogue.tokeniser import Tokeniser
from catalogue.weights import invalid, weight_files
from schemas.catalogue import ModelDescription
from schemas.names import Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.result import ModelProvenance
from schemas.settings import Settings
from workers.kernels import mamba
from workers.mixers import adapter_for, mixers_of
from workers.mixers.attention_calls import IMPLEMENTATION, register
from workers.models.fetching import fetch
from workers.models.native import read_native
from workers.models.readout import Readout
from workers.models.weights import read, sha256

# Hidden attention is compared with the model's output to 1e-4, which bfloat16 cannot reach.
DTYPE = torch.float32

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
# Tensors that a message names.
_NAMED = 6


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, float32, without gradients on its parameters."""

    name: str
    model: Any
    readout: Readout
    tokeniser: Tokeniser
    description: ModelDescription
    provenance: ModelProvenance
    device: torch.device


def load(location: Location, settings: Settings) -> LoadedModel:
    """Fetch if need be, load, check and place a model.

    Raises ProblemError: model-unavailable (cannot be downloaded), model-invalid (files that are
    missing, damaged or do not fit each other), unsupported-architecture (no causal language model
    that this library or the adapters know), not-finite; ValueError for an unusable device setting.
    """
    device = choose_device(settings.device)
    found = fetch(location)
    path = found.path
    if path is None:
        raise ValueError(f"`{location.name}` has no directory")
    description = describe(found, settings)
    tokeniser = Tokeniser.load(found.tokeniser_path or path)
    name = location.name
    files = weight_files(path, name)
    config = _config(path, name)
    if is_native_directory(path):
        tensors = read_native(files, name, config.tie_word_embeddings)
    else:
        tensors = read(files, name)
    _check_size(name, config, len(description.layers), tensors)
    model = _assemble(name, config, tensors).to(device)
    model.requires_grad_(False)
    _check_vocabulary(name, model, tokeniser)
    kernel = _prepare_mixers({known.mixer for known in description.layers}, device)
    readout = Readout.of(model)
    _check_forward(name, model, readout, device)
    _check_mixers(name, model, description)
    provenance = ModelProvenance(
        model=name,
        architecture=description.architecture,
        revision=found.revision,
        weights_sha256=sha256(files),
        dtype=str(DTYPE).removeprefix("torch."),
        device=str(device),
        kernel=kernel,
    )
    return LoadedModel(name, model, readout, tokeniser, description, provenance, device)


def choose_device(wanted: str) -> torch.device:
    """The device that MAMBASCOPE_DEVICE names; `auto` is the GPU where there is one.

    Raises ValueError: no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"MAMBASCOPE_DEVICE is {wanted!r}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"MAMBASCOPE_DEVICE is {wanted!r}, but there is no such GPU; give auto")
    return device


def _config(path: Path, name: str) -> Any:
    """The config, of an architecture that has a causal language model."""
    written = json.loads((path / CONFIG_FILE).read_bytes())
    raw = as_transformers(written, name)
    for key, why in _REFUSED.items():
        if raw.get(key):
            raise invalid(name, f"its {CONFIG_FILE} {why} (`{key}`)")
    for key in _ATTENTION_KEYS:
        if raw.get(key) not in (None, "eager", "sdpa"):
            raise invalid(name, f"its {CONFIG_FILE} sets `{key}`; remove it")
    if raw["model_type"] not in CONFIG_MAPPING:
        raise _unsupported(name, f"nothing here knows the model_type {raw['model_type'][:80]!r}")
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
        raise _unsupported(name, f"{config.model_type} is no causal language model")
    return config


def _assemble(name: str, config: Any, tensors: dict[str, Tensor]) -> Any:
    """The model with exactly these tensors; refuses when any is missing, left over or misshapen."""
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    # The library's progress bars and advice do not belong in a worker's log; errors do.
    register()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    model, info = architecture.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=DTYPE,
        attn_implementation=IMPLEMENTATION,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if info["mismatched_keys"]:
        shapes = [f"{key} ({list(a)}, not {list(b)})" for key, a, b in info["mismatched_keys"]]
        raise invalid(name, f"these weights do not fit its {CONFIG_FILE}: {_some(shapes)}")
    for kind, keys in (("lacks", info["missing_keys"]), ("has too", info["unexpected_keys"])):
        if keys:
            raise invalid(name, f"as its {CONFIG_FILE} describes it, it {kind}: {_some(keys)}")
    # Anything but real numbers would be cast: half of a complex one is lost without a word.
    unreal = [
        f"{key} ({str(tensors[key].dtype).removeprefix('torch.')})"
        for key, _ in model.named_parameters()
        if key in tensors and not tensors[key].is_floating_point()
    ]
    if unreal:
        raise invalid(name, f"these weights are no real numbers: {_some(unreal)}")
    return model.eval()


def _check_size(name: str, config: Any, layers: int, tensors: dict[str, Tensor]) -> None:
    """Build the model without memory, and refuse one far larger than its weights."""
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


def _check_vocabulary(name: str, model: Any, tokeniser: Tokeniser) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(tokeniser.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= rows:
        raise invalid(
            name,
            f"its tokenizer.json has a token with id {largest}, but the model embeds only {rows} "
            "tokens; use the tokenizer that it was trained with",
        )


def _prepare_mixers(families: set[Mixer], device: torch.device) -> str:
    """Have state-space mixers run by the kernels here; returns which scan will run."""
    # TensorFloat-32, which convolutions use by default, keeps 10 bits: too few for the self-check.
    torch.backends.cudnn.allow_tf32 = False
    mamba.install()
    return mamba.implementation(device, families)


def _check_mixers(name: str, model: Any, description: ModelDescription) -> None:
    """Refuse a model with a mixer that has an adapter but no exact trace, or none where it should.

    What its config says of its layers was told to whoever asked for them.
    """
    found = mixers_of(model)
    for module in found.values():
        adapter = adapter_for(module)
        objection = None if adapter is None else adapter.objection(module)
        if objection is not None:
            raise _unsupported(name, objection)
    for known in description.layers:
        if known.methods and known.layer not in found:
            what = f"its layer {known.layer} carries no {known.mixer} mixer that is known here"
            raise _unsupported(name, what)


def _check_forward(name: str, model: Any, readout: Readout, device: torch.device) -> None:
    """Two tiny forward passes: logits are what is read of the last hidden state, and causal.

    The tracing pass relies on both: it reads the head at one position and pads on the right.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]], device=device) % rows
    try:
        with torch.no_grad():
            full = model(input_ids=ids, use_cache=False).logits.float()
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            read_out = readout(states)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise _unsupported(name, f"it does not run on token ids: {_first_line(error)}") from error
    if not bool(torch.isfinite(full).all()):
        raise ProblemError(
            ProblemType.NOT_FINITE,
            f"The model `{name}` computes infinities or NaN for its first tokens. Check its "
            "weights.",
        )
    scale = float(full.abs().max())
    # The same sums in the same order; between rows of a batch the order may differ.
    if not torch.allclose(read_out, full, rtol=0, atol=1e-4 * scale):
        raise _unsupported(name, "its logits are not its output embedding of the last hidden state")
    if not torch.allclose(full[0, :2], full[1, :2], rtol=0, atol=1e-2 * scale):
        raise _unsupported(name, "it is not causal: a later token changes an earlier logit")


def _unsupported(name: str, why: str) -> ProblemError:
    return ProblemError(
        ProblemType.UNSUPPORTED_ARCHITECTURE, f"The model `{name}` cannot be analysed: {why}."
    )


def _reason(error: Exception) -> str:
    """What a config's own check said: the whole of it, for its first line names only the field."""
    if isinstance(error, StrictDataclassError):
        return " ".join(str(error).split())[:300].rstrip(".")
    return _first_line(error)


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it names {error}, which is unknown"
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200].rstrip(".")


def _some(names: Any) -> str:
    """The first few names, and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more
