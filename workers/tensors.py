"""`tensors.safetensors`: the maps themselves, in float32."""

import json
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from catalogue.budget import tensors_error
from schemas.artifact_names import tensor_key
from schemas.names import Method
from schemas.problem import ProblemError
from workers.analyses.maps import MethodMaps

_ALIGNMENT = 8


@dataclass
class TensorFile:
    """Collects one job's tensors in memory, never more than `limit` bytes of them."""

    limit: int
    expected: int = 0
    held: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def expect(self, size: int) -> None:
        """Announce a model's tensors, in bytes, before they are computed.

        Raises ProblemError (invalid-request) when the file would then be over the limit.
        """
        self.expected += size
        error = tensors_error(self.expected, self.limit)
        if error is not None:
            raise ProblemError.of_field(error)

    def add(self, model: int, text: int, layer: int, maps: dict[Method, MethodMaps]) -> None:
        """Keep every tensor that the methods define for one layer; indices as in the request."""
        for method, found in maps.items():
            for what, tensor in found.tensors().items():
                key = tensor_key(model, text, layer, method, what)
                self.held[key] = tensor.detach().to("cpu", torch.float32).contiguous().numpy()

    def render(self) -> bytes:
        """The file, which is one copy of all that is held.

        Written here because the library copies three times, and where there is no room for that
        ends the process instead of raising MemoryError. Eight bytes with the length of the header;
        the header, JSON, filled up with spaces to a multiple of eight; the numbers, little endian.

        Source: safetensors, "Format" (github.com/huggingface/safetensors).
        """
        header, end = {}, 0
        for key, array in self.held.items():
            start, end = end, end + array.nbytes
            header[key] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, end]}
        described = json.dumps(header).encode()
        described += b" " * (-len(described) % _ALIGNMENT)
        length = len(described).to_bytes(_ALIGNMENT, "little")
        numbers = (array.astype("<f4", copy=False).data for array in self.held.values())
        return b"".join([length, described, *numbers])
