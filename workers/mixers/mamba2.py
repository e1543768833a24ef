"""The adapter of transformers' Mamba-2: an SSD mixer from the names of its module."""

from typing import Any

import torch
from torch import Tensor, nn

from workers.kernels.mamba import SILU
from workers.mixers.protocol import Capture
from workers.mixers.ssd import SSDTrace
from workers.mixers.ssd_pieces import Gate, SSDWeights


class Mamba2Adapter:
    """Traces transformers' `Mamba2Mixer`; holds every name of that module."""

    def layer(self, module: nn.Module) -> int:
        """Index of the layer the mixer belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    def objection(self, module: nn.Module) -> str | None:
        """Any activation but SiLU: the decomposition is for SiLU only."""
        if module.activation in SILU:
            return None
        return f"layer {self.layer(module)} has hidden_act {module.activation!r}; SSD needs 'silu'"

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), which the block passes by position."""
        hidden: Tensor = args[0]
        return hidden

    def trace(self, module: nn.Module, capture: Capture) -> SSDTrace:
        """The mixer's weights beside what was captured; nothing of the text is computed yet."""
        return SSDTrace(ssd_weights(module), capture)


def ssd_weights(module: Any) -> SSDWeights:
    """The weights of a `Mamba2Mixer`, in float32; a float32 mixer's are shared, not copied."""
    named = {name: value.detach().float() for name, value in module.named_parameters()}
    norm = module.norm
    low, high = module.time_step_limit
    return SSDWeights(
        in_weight=named["in_proj.weight"],
        in_bias=named.get("in_proj.bias"),
        conv_weight=named["conv1d.weight"].squeeze(1),
        conv_bias=named.get("conv1d.bias"),
        step_bias=named["dt_bias"],
        step_limit=(float(low), float(high)),
        A=-torch.exp(named["A_log"]),
        D=named["D"],
        gate=Gate(
            weight=named["norm.weight"],
            groups=norm.weight.shape[0] // norm.group_size,
            eps=norm.variance_epsilon,
        ),
        out_weight=named["out_proj.weight"],
        out_bias=named.get("out_proj.bias"),
        groups=module.n_groups,
    )
