"""The adapter of transformers' Mamba-2 and of the hybrids that use its mixer under its names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workers.kernels.mamba import SILU
from workers.mixers.protocol import Capture
from workers.mixers.ssd import SSDTrace
from workers.mixers.ssd_pieces import Gate, SSDWeights


class Mamba2Adapter:
    """Traces transformers' `Mamba2Mixer` and its copies; holds every name of these modules."""

    def layer(self, module: nn.Module) -> int:
        """Index of the layer the mixer belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    def objection(self, module: nn.Module) -> str | None:
        """Any activation but SiLU: the decomposition is for SiLU only."""
        if module.activation in SILU:
            return None
        return f"layer {self.layer(module)} has hidden_act {module.activation!r}; SSD needs 'silu'"

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), by position or by its name."""
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        return hidden

    def projection(self, module: nn.Module) -> nn.Module:
        """What reads the neurons."""
        return module.out_proj  # type: ignore[return-value]

    def context(self, kwargs: Mapping[str, Any], row: int, length: int) -> dict[str, Any]:
        """Nothing: the mixer's input says all."""
        return {}

    def trace(self, module: nn.Module, capture: Capture) -> SSDTrace:
        """The mixer's weights beside what was captured; nothing of the text is computed yet."""
        return SSDTrace(ssd_weights(module, _gate(module.norm)), capture)


def _gate(norm: Any) -> Gate:
    weight = norm.weight.detach().float()
    return Gate(weight, groups=len(weight) // norm.group_size, eps=norm.variance_epsilon)


def ssd_weights(module: Any, gate: Gate) -> SSDWeights:
    """The weights of a `Mamba2Mixer`, in float32; a float32 mixer's are shared, not copied."""
    named = {name: value.detach().float() for name, value in module.named_parameters()}
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
        gate=gate,
        out_weight=named["out_proj.weight"],
        out_bias=named.get("out_proj.bias"),
        groups=module.n_groups,
    )
