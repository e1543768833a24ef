"""The adapter of transformers' attention modules, all that hand their heads to one function.

Which queries, keys and values a module makes is told by the module itself: it is run again on what
it read, with `attention_calls` listening. What is named here is its output projection.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workers.kernels.softmax import Heads
from workers.mixers.attention_calls import calls
from workers.mixers.protocol import Capture
from workers.mixers.softmax import SoftmaxTrace

# The names under which modules keep their output projection.
_PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense")


class AttentionAdapter:
    """Traces an attention module of transformers."""

    def layer(self, module: nn.Module) -> int:
        """Index of the layer the mixer belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    def objection(self, module: nn.Module) -> str | None:
        """Why the module has no exact trace: its output projection is not known; else None."""
        if self.projection(module) is not None:
            return None
        return f"layer {self.layer(module)}: {type(module).__name__} has no output projection"

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), by position or by its name."""
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        return hidden

    def projection(self, module: nn.Module) -> nn.Module | None:
        """What reads the heads' outputs, or None if it is not known."""
        found = (getattr(module, name, None) for name in _PROJECTIONS)
        return next((child for child in found if isinstance(child, nn.Linear | Conv1D)), None)

    def context(self, kwargs: Mapping[str, Any], row: int, length: int) -> dict[str, Any]:
        """What else one text's call was made with: positions and mask, cut to its tokens."""
        return {
            name: _cut(value, row, length)
            for name, value in kwargs.items()
            if name in ("position_embeddings", "position_ids", "attention_mask")
        }

    def trace(self, module: nn.Module, capture: Capture) -> SoftmaxTrace:
        """The module's own heads on what it read, beside its output projection, in float32.

        The module runs in its own dtype. Raises ValueError, TypeError: it attends in a way that is
        not known here.
        """
        dtype = next(module.parameters()).dtype
        with torch.no_grad(), calls() as found:
            module(hidden_states=capture.hidden[None].to(dtype), **capture.context)
        if len(found) != 1:
            raise ValueError(f"it calls the attention function {len(found)} times, not once")
        if found[0].unknown:
            raise ValueError(f"arguments of unknown effect: {', '.join(found[0].unknown)}")
        call, projection = found[0], self.projection(module)
        if projection is None:
            raise TypeError(f"{type(module).__name__} has no output projection")
        heads = Heads(
            call.queries.float(),
            call.keys.float(),
            call.values.float(),
            scaling=call.scaling,
            reach=call.reach,
            cap=call.cap,
            sinks=None if call.sinks is None else call.sinks.detach().float(),
        )
        weight, bias = _weights(projection)
        return SoftmaxTrace(heads, weight, bias, capture)


def _weights(projection: Any) -> tuple[Tensor, Tensor | None]:
    """(m, d) and (m,) or None."""
    weight = projection.weight.detach().float()
    bias = projection.bias
    weight = weight.T if isinstance(projection, Conv1D) else weight
    return weight, None if bias is None else bias.detach().float()


def _cut(value: Any, row: int, length: int) -> Any:
    """One text of a batch (b or 1, l, ..) or of a mask (b or 1, 1, l, l); a tuple's each."""
    if isinstance(value, tuple):
        return tuple(_cut(part, row, length) for part in value)
    if not isinstance(value, Tensor):
        return value
    at = row if value.shape[0] > 1 else 0
    text = value[at : at + 1]
    return text[:, :, :length, :length] if text.ndim == 4 else text[:, :length]
