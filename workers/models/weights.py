"""The weights of a model directory: safetensors files only, named, read and hashed."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from schemas.problem import ProblemError, ProblemType

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CHUNK_BYTES = 1 << 24


def weight_files(path: Path, name: str) -> list[Path]:
    """The safetensors files that hold the weights of the model `name` in the directory, sorted.

    Raises ProblemError (model-invalid): none there, only pickled ones, or an index that names
    files which are missing or lie elsewhere.
    """
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    if not (path / INDEX).is_file():
        pickled = any(next(path.glob(pattern), None) for pattern in _PICKLED)
        why = "its weights are pickled, which is never loaded" if pickled else "it has no weights"
        raise invalid(name, f"{why}; save them with safetensors as {SINGLE}")
    shards = _shards(path, name)
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise invalid(name, f"{INDEX} names {shard[:80]!r}, which is no safetensors file in it")
        if not (path / shard).is_file():
            raise invalid(name, f"{shard}, which {INDEX} names, is missing; copy it there")
    return [path / shard for shard in shards]


def _shards(path: Path, name: str) -> list[str]:
    try:
        names = set(json.loads((path / INDEX).read_bytes())["weight_map"].values())
        found = sorted(str(name) for name in names)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise invalid(name, f"{INDEX} is not an index of shards; save the model again") from None
    if not found:
        raise invalid(name, f"{INDEX} names no shards; save the model again")
    return found


def read(files: list[Path], name: str) -> dict[str, Tensor]:
    """Every tensor by name.

    Raises ProblemError (model-invalid): a damaged file, or a tensor that lies in two of them.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            # Copies: the loaded ones are windows on the file, and a file that is later cut short
            # would kill the process at the next read.
            found = {key: tensor.clone() for key, tensor in load_file(file).items()}
        except (SafetensorError, ValueError, KeyError) as error:
            raise invalid(
                name, f"{file.name} is truncated or damaged ({error}); copy it again"
            ) from None
        if twice := sorted(found.keys() & tensors.keys()):
            raise invalid(
                name,
                f"{twice[0]} lies in {file.name} and in another shard too, so that nobody knows "
                "which is meant; save the model again",
            )
        tensors.update(found)
    return tensors


def sha256(files: list[Path]) -> str:
    """Of the one file, or of the digests of several in order; remembered until a file changes."""
    digests = [_sha256(file, *_stamp(file)) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(64)
def _sha256(file: Path, size: int, changed_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def invalid(name: str, why: str) -> ProblemError:
    """The problem of a model whose files cannot be used."""
    return ProblemError(ProblemType.MODEL_INVALID, f"The model `{name}` is not usable: {why}.")
