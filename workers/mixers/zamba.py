"""The adapter of Zamba's S6 mixers, which have several heads.

A hybrid layer adds what a shared transformer block makes of it to its mixer's input; the mixer is
that of any other layer. Source: Glorioso et al., "Zamba" (2405.16712); the heads are those of
transformers' `ZambaMambaMixer`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from workers.mixers.mamba import MambaAdapter
from workers.mixers.s6_pieces import S6Weights


class ZambaAdapter(MambaAdapter):
    """Traces `ZambaMambaMixer`; holds every name of that module's parameters.

    Its input projection makes u and z of each channel side by side. Channels are counted head
    after head, as the output projection reads them.
    """

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), which the block passes by name."""
        hidden: Tensor = kwargs["hidden_states"]
        return hidden

    def weights(self, module: nn.Module) -> S6Weights:
        """The mixer's own weights, in float32. Raises KeyError: it lacks one."""
        named = {name: value.detach().float() for name, value in module.named_parameters()}
        return S6Weights(
            in_weight=named["in_proj.weight"],
            in_bias=named.get("in_proj.bias"),
            conv_weight=named["conv1d.weight"].squeeze(1),
            conv_bias=named.get("conv1d.bias"),
            selection=named["x_proj_weight"].flatten(0, 1),
            step_weight=named["dt_proj_weight"].flatten(0, 1),
            step_bias=named["dt_proj_bias"].flatten(),
            A=-torch.exp(named["A_log"]).flatten(0, 1),
            D=named["D"].flatten(),
            out_weight=named["out_proj.weight"],
            out_bias=named.get("out_proj.bias"),
            heads=len(named["x_proj_weight"]),
            interleaved=True,
        )
