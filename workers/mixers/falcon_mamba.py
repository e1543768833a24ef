"""The adapter of transformers' FalconMamba: Mamba's S6 mixer, its step, B and C normalised.

Source: Zuo et al., "Falcon Mamba" (2410.05355).
"""

from dataclasses import replace

from torch import nn

from workers.mixers.mamba import MambaAdapter
from workers.mixers.s6_pieces import RmsNorm, S6Weights

_NORMS = ("dt_layernorm", "b_layernorm", "c_layernorm")


class FalconMambaAdapter(MambaAdapter):
    """Traces `FalconMambaMixer`: the parameters of a `MambaMixer`, and norms without weights.

    The norms hold buffers of ones that only a fused training kernel reads.
    """

    def weights(self, module: nn.Module) -> S6Weights:
        """The mixer's own weights, in float32. Raises KeyError, AttributeError: it lacks one."""
        step, b, c = (RmsNorm(eps=getattr(module, name).eps) for name in _NORMS)
        return replace(super().weights(module), norms=(step, b, c))
