"""The adapter of Jamba's S6 layers: Mamba's mixer, its step, B and C normalised with weights.

Its attention layers have mixers of another family. Source: Lieber et al., "Jamba" (2403.19887),
section 6.4.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from workers.mixers.mamba import MambaAdapter
from workers.mixers.s6_pieces import RmsNorm, S6Weights

_NORMS = ("dt_layernorm", "b_layernorm", "c_layernorm")


class JambaAdapter(MambaAdapter):
    """Traces `JambaMambaMixer`: the parameters of a `MambaMixer`, and those of three norms."""

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), which the block passes by name."""
        hidden: Tensor = kwargs["hidden_states"]
        return hidden

    def weights(self, module: nn.Module) -> S6Weights:
        """The mixer's own weights, in float32. Raises KeyError, AttributeError: it lacks one."""
        step, b, c = (_norm(getattr(module, name)) for name in _NORMS)
        return replace(super().weights(module), norms=(step, b, c))


def _norm(module: Any) -> RmsNorm:
    return RmsNorm(eps=module.variance_epsilon, weight=module.weight.detach().float())
