"""The weights of a model directory: safetensors files only, read and hashed."""

import hashlib
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from catalogue.weights import invalid
from workers.kernels import pulse

# Bytes that are hashed between two signs of life.
_CHUNK = 1 << 24


def read(files: list[Path], name: str) -> dict[str, Tensor]:
    """Every tensor by name.

    Raises ProblemError (model-invalid): a damaged file, or a tensor that lies in two of them.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            # Copies: the loaded ones are windows on the file, and a file that is later cut short
            # would kill the process at the next read.
            found = {key: _copy(tensor) for key, tensor in load_file(file).items()}
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


def _copy(tensor: Tensor) -> Tensor:
    pulse.beat()
    return tensor.clone()


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
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            pulse.beat()
            digest.update(chunk)
    return digest.hexdigest()
