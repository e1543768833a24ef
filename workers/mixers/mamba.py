"""The adapter of transformers' Mamba: an S6 mixer from the names of its module."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workers.kernels.mamba import SILU
from workers.mixers.protocol import Capture
from workers.mixers.s6 import S6Trace
from workers.mixers.s6_pieces import S6Weights


class MambaAdapter:
    """Traces transformers' `MambaMixer`; holds every name of that module.

    Only the mixer's own input and weights are read: inside it, the convolution and the step
    projection are called as functions, so hooks on them never fire.
    """

    def layer(self, module: nn.Module) -> int:
        """Index of the layer the mixer belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    def objection(self, module: nn.Module) -> str | None:
        """Any activation but SiLU: the decomposition and the kernels are for SiLU only."""
        if module.activation in SILU:
            return None
        return f"layer {self.layer(module)} has hidden_act {module.activation!r}; S6 needs 'silu'"

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), which the block passes by position."""
        hidden: Tensor = args[0]
        return hidden

    def projection(self, module: nn.Module) -> nn.Module:
        """What reads the neurons."""
        return module.out_proj  # type: ignore[return-value]

    def context(self, kwargs: Mapping[str, Any], row: int, length: int) -> dict[str, Any]:
        """Nothing: the mixer's input says all."""
        return {}

    def trace(self, module: nn.Module, capture: Capture) -> S6Trace:
        """The mixer's weights beside what was captured; nothing of the text is computed yet."""
        return S6Trace(self.weights(module), capture)

    def weights(self, module: nn.Module) -> S6Weights:
        """The mixer's own weights, in float32. Raises KeyError: it lacks one."""
        return s6_weights(dict(module.named_parameters()))


def s6_weights(parameters: Mapping[str, Tensor]) -> S6Weights:
    """The weights of a `MambaMixer`, in float32; a float32 mixer's are shared, not copied."""
    named = {name: value.detach().float() for name, value in parameters.items()}
    return S6Weights(
        in_weight=named["in_proj.weight"],
        in_bias=named.get("in_proj.bias"),
        conv_weight=named["conv1d.weight"].squeeze(1),
        conv_bias=named.get("conv1d.bias"),
        selection=named["x_proj.weight"],
        step_weight=named["dt_proj.weight"],
        step_bias=named["dt_proj.bias"],
        A=-torch.exp(named["A_log"]),
        D=named["D"],
        out_weight=named["out_proj.weight"],
        out_bias=named.get("out_proj.bias"),
    )
