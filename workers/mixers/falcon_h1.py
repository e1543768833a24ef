"""The adapter of transformers' Falcon-H1: Mamba-2's mixer with multipliers and an optional norm."""

from dataclasses import replace
from typing import Any

from torch import nn

from workers.mixers.mamba2 import Mamba2Adapter, ssd_weights
from workers.mixers.protocol import Capture
from workers.mixers.ssd import SSDTrace
from workers.mixers.ssd_pieces import Gate, SSDWeights


class FalconH1Adapter(Mamba2Adapter):
    """Traces transformers' `FalconH1Mixer`; holds what its module names otherwise."""

    def trace(self, module: nn.Module, capture: Capture) -> SSDTrace:
        """As Mamba-2's; the multipliers are taken into the projection's weights."""
        return SSDTrace(_weights(module), capture)


def _weights(module: Any) -> SSDWeights:
    """The weights of a `FalconH1Mixer`, in float32."""
    norm = module.norm
    gate = Gate(weight=None, groups=1, eps=0.0)
    if module.mamba_rms_norm:
        weight = norm.weight.detach().float()
        gate = Gate(weight, norm.n_groups, norm.variance_epsilon, norm.norm_before_gate)
    plain = ssd_weights(module, gate)
    each = module.mup_vector.detach().float().flatten()
    return replace(
        plain,
        in_weight=plain.in_weight * each[:, None] * module.ssm_in_multiplier,
        in_bias=None if plain.in_bias is None else plain.in_bias * each,
    )
