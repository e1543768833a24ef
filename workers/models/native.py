"""The weights of a directory in mamba_ssm's own format, by the names that transformers uses.

Source: mamba_ssm (github.com/state-spaces/mamba), `MambaLMHeadModel`. Its layers name and shape
their tensors as transformers does; the embedding has another name, and a head that is tied to it is
listed beside it.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from catalogue import pickled
from catalogue.files import CHECKPOINT_FILE
from catalogue.weights import invalid
from workers.models.refusing import first_line
from workers.models.weights import read

_RENAMED = {"backbone.embedding.weight": "backbone.embeddings.weight"}
_EMBEDDING, _HEAD = "backbone.embedding.weight", "lm_head.weight"


def read_native(files: list[Path], name: str, is_tied: bool) -> dict[str, Tensor]:
    """Every tensor of the model `name` by transformers' name.

    `files` are safetensors files, or the one pickled state dict. Where the config ties the head to
    the embedding, the head is left out, as transformers saves it, after a comparison of the two.
    Raises ProblemError (model-invalid): a damaged file, one that holds anything but plain tensors
    by name, names that are not mamba_ssm's, or a head that differs from its embedding.
    """
    is_pickled = [file.name for file in files] == [CHECKPOINT_FILE]
    tensors = read_checkpoint(files[0], name) if is_pickled else read(files, name)
    if foreign := sorted(tensors.keys() & set(_RENAMED.values())):
        raise invalid(
            name,
            f"{foreign[0]} is no name of mamba_ssm's format, which its config.json is in; use the "
            "config.json that was saved with these weights",
        )
    head, embedding = tensors.get(_HEAD), tensors.get(_EMBEDDING)
    if is_tied and head is not None:
        if embedding is not None and head is not embedding and not torch.equal(head, embedding):
            raise invalid(
                name,
                f"its config.json ties {_HEAD} to {_EMBEDDING}, but the two differ; set "
                "`tie_embeddings` to false if the model was trained so",
            )
        del tensors[_HEAD]
    return {_RENAMED.get(key, key): tensor for key, tensor in tensors.items()}


def read_checkpoint(file: Path, name: str) -> dict[str, Tensor]:
    """Every tensor of a state dict saved by `torch.save`, by the names in the file.

    Nothing in the file is run: its program is first checked to build tensors alone, then read by
    torch's unpickler of weights. Copies, as `read` makes them; tensors that are the same part of
    the file share theirs. Raises ProblemError (model-invalid).
    """
    try:
        size = pickled.inspect(file)
    except ValueError as error:
        raise invalid(name, f"{file.name} {error}") from None
    try:
        # Mapped, so that a claim about sizes reaches no further than the file.
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler interprets a program: a wrong one ends in anything
        raise invalid(
            name,
            f"{file.name} is refused by torch's unpickler of weights ({first_line(error)}); save "
            "the model's state dict again with torch.save",
        ) from None
    return _copies(_plain_tensors(held, file, name), size.stored_bytes, file, name)


def _plain_tensors(held: Any, file: Path, name: str) -> dict[str, Tensor]:
    if type(held) not in (dict, OrderedDict):
        raise invalid(
            name,
            f"{file.name} holds no state dict but a {type(held).__name__}; save the model's state "
            "dict with torch.save",
        )
    for key, value in held.items():
        if type(key) is not str or type(value) not in (Tensor, nn.Parameter):
            what = type(value).__name__ if type(key) is str else "entry whose name is no string"
            raise invalid(
                name,
                f"`{str(key)[:80]}` in {file.name} is no tensor but a {what}; save the model's "
                "state dict alone",
            )
    return dict(held)


def _copies(tensors: dict[str, Tensor], stored: int, file: Path, name: str) -> dict[str, Tensor]:
    """The tensors off the file; refuses some that would unfold to more than its numbers."""
    keys = {key: _place(tensor) for key, tensor in tensors.items()}
    unfolded = {keys[key]: tensor.numel() * tensor.itemsize for key, tensor in tensors.items()}
    if sum(unfolded.values()) > stored:
        raise invalid(
            name,
            f"the tensors in {file.name} claim more numbers than it stores; save the model's state "
            "dict again with torch.save",
        )
    copies: dict[tuple[Any, ...], Tensor] = {}
    for key, tensor in tensors.items():
        if keys[key] not in copies:
            plain = tensor.detach().clone(memory_format=torch.contiguous_format)
            copies[keys[key]] = plain
    return {key: copies[keys[key]] for key in tensors}


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """What part of the file a tensor is."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
