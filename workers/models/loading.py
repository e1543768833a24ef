"""Loading a model so that what runs is what lies on disk: every tensor found, none invented.

Weights are read by this package and handed to the architecture's own class, so no other file of the
directory is opened: no code, no adapters, no links to other models. They are safetensors; pickled
ones are read beside a config in mamba_ssm's own format only, by `workers.models.native`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from catalogue.describe import POSITIONS, describe
from catalogue.files import is_native_directory, stamp
from catalogue.locate import Location
from catalogue.tokeniser import Tokeniser
from catalogue.weights import invalid, weight_files
from schemas.catalogue import ModelDescription
from schemas.names import Dtype
from schemas.result import ModelProvenance
from schemas.settings import Settings
from workers.kernels import mamba
from workers.mixers import mixers_of
from workers.models.assembling import assemble, check_size, read_config
from workers.models.checking import check_forward, check_mixers, check_vocabulary
from workers.models.fetching import fetch
from workers.models.native import read_native
from workers.models.readout import Readout
from workers.models.weights import read, sha256

_DTYPES = {
    Dtype.FLOAT32: torch.float32,
    Dtype.BFLOAT16: torch.bfloat16,
    Dtype.FLOAT16: torch.float16,
}


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients on its parameters."""

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
    chosen = settings.for_model(location.name)
    device, dtype = choose_device(chosen.device or settings.device), _DTYPES[chosen.dtype]
    found = fetch(location)
    path = found.path
    if path is None:
        raise ValueError(f"`{location.name}` has no directory")
    description = describe(found, settings)
    tokeniser = Tokeniser.load(found.tokeniser_path or path)
    name = location.name
    files = weight_files(path, name)
    before = [stamp(file) for file in files]
    config = read_config(path, name)
    if is_native_directory(path):
        tensors = read_native(files, name, config.tie_word_embeddings)
    else:
        tensors = read(files, name)
    check_size(name, config, len(description.layers), tensors)
    model = assemble(name, config, tensors, dtype).to(device)
    model.requires_grad_(False)
    check_vocabulary(name, model, tokeniser)
    kernel = _prepare_mixers(mixers_of(model).values(), device)
    readout = Readout.of(model)
    check_forward(name, model, readout, device)
    check_mixers(name, model, description, settings.tolerance_of(name))
    try:
        digest = sha256(files)
    except OSError:
        digest = ""
    if not digest or [stamp(file) for file in files] != before:
        raise invalid(name, "its files changed while they were read; ask again")
    provenance = ModelProvenance(
        model=name,
        architecture=description.architecture,
        revision=found.revision,
        weights_sha256=digest,
        dtype=chosen.dtype,
        device=str(device),
        kernel=kernel,
    )
    limited = _limited(description, model.config)
    return LoadedModel(name, model, readout, tokeniser, limited, provenance, device)


def _limited(description: ModelDescription, config: Any) -> ModelDescription:
    """The description with the library's own limit, where the config on disk leaves it out."""
    named = (getattr(config, key, None) for key in POSITIONS)
    positions = next((found for found in named if isinstance(found, int)), None)
    if positions is None:
        return description
    longest = min(description.max_tokens, positions)
    rows = min(description.max_row_tokens, positions)
    return description.model_copy(update={"max_tokens": longest, "max_row_tokens": rows})


def choose_device(wanted: str, setting: str = "MAMBASCOPE_DEVICE") -> torch.device:
    """The device that a setting names; `auto` is the GPU where there is one.

    Raises ValueError: no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"{setting} says {wanted!r}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{setting} says {wanted!r}, but there is no such GPU; give auto")
    return device


def _prepare_mixers(mixers: Iterable[nn.Module], device: torch.device) -> str:
    """Have state-space mixers run by the kernels here; returns which scan will run."""
    # TensorFloat-32, which convolutions use by default, keeps 10 bits: too few for the self-check.
    torch.backends.cudnn.allow_tf32 = False
    mamba.install()
    return mamba.implementation(device, mixers)
