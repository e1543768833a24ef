"""Which files hold a model's weights, and how many there are by the files' own headers."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalogue import pickled
from catalogue.files import CHECKPOINT_FILE, is_file, is_native_directory
from schemas.problem import ProblemError, ProblemType

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LENGTH_BYTES = 8
# What the library itself refuses to read.
_LONGEST_HEADER = 100_000_000
# The narrowest type of the format has two numbers a byte.
_NUMBERS_A_BYTE = 2


@dataclass(frozen=True)
class WeightsSize:
    """How large a model's weights are: numbers in all tensors, and the bytes that store them."""

    parameters: int
    stored_bytes: int


def weight_files(path: Path, name: str) -> list[Path]:
    """The files that hold the weights of the model `name` in the directory, sorted.

    They are safetensors files; only beside a config in mamba_ssm's own format, and without any of
    those, may it be that format's pickled state dict. Raises ProblemError (model-invalid): none
    there, only pickled ones, or an index that names files which are missing or lie elsewhere.
    """
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    if not (path / INDEX).is_file():
        if (path / CHECKPOINT_FILE).is_file() and is_native_directory(path):
            return [path / CHECKPOINT_FILE]
        has_pickled = any(next(path.glob(pattern), None) for pattern in _PICKLED)
        why = (
            "its weights are pickled, which is never loaded" if has_pickled else "it has no weights"
        )
        raise invalid(name, f"{why}; save them with safetensors as {SINGLE}")
    shards = _shards(path, name)
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise invalid(name, f"{INDEX} names {shard[:80]!r}, which is no safetensors file in it")
        if not is_file(path / shard):
            raise invalid(name, f"{shard[:80]}, which {INDEX} names, is missing; copy it there")
    return [path / shard for shard in shards]


def weights_size(path: Path, name: str) -> WeightsSize:
    """The size of the weights in a model's directory. Costs the headers: no tensor is read.

    Source: safetensors, "Format" (github.com/huggingface/safetensors). Raises ProblemError
    (model-invalid) as `weight_files` does, and for a file that is shorter than its header says.
    """
    parameters = stored = 0
    for file in weight_files(path, name):
        try:
            size = _size_told(file)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise invalid(name, f"{file.name} is truncated or damaged; copy it again") from None
        parameters += size.parameters
        stored += size.stored_bytes
    return WeightsSize(parameters, stored)


def invalid(name: str, why: str) -> ProblemError:
    """The problem of a model whose files cannot be used."""
    return ProblemError(ProblemType.MODEL_INVALID, f"The model `{name}` is not usable: {why}.")


def _size_told(file: Path) -> WeightsSize:
    if file.name == CHECKPOINT_FILE:
        size = pickled.inspect(file)
        return WeightsSize(size.numbers, size.stored_bytes)
    with file.open("rb") as stream:
        left = file.stat().st_size - _LENGTH_BYTES
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if length > min(left, _LONGEST_HEADER):
            raise ValueError("the header ends after the file")
        header: dict[str, Any] = json.loads(stream.read(length))
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    parameters = sum(math.prod(entry["shape"]) for entry in tensors)
    stored = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in tensors)
    if not 0 <= parameters <= _NUMBERS_A_BYTE * stored <= _NUMBERS_A_BYTE * (left - length):
        raise ValueError("the tensors end after the file")
    return WeightsSize(parameters, stored)


def _shards(path: Path, name: str) -> list[str]:
    try:
        names = set(json.loads((path / INDEX).read_bytes())["weight_map"].values())
        found = sorted(str(name) for name in names)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise invalid(name, f"{INDEX} is not an index of shards; save the model again") from None
    if not found:
        raise invalid(name, f"{INDEX} names no shards; save the model again")
    return found
