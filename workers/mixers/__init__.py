"""One adapter per token-mixer family: from a mixer module to its hidden attention."""

from torch import nn
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from workers.mixers.mamba import MambaAdapter
from workers.mixers.mamba2 import Mamba2Adapter
from workers.mixers.protocol import MixerAdapter

_ADAPTERS: dict[type[nn.Module], MixerAdapter] = {
    MambaMixer: MambaAdapter(),
    Mamba2Mixer: Mamba2Adapter(),
}


def adapter_for(module: nn.Module) -> MixerAdapter | None:
    """The adapter that traces this very class of module, or None if it is no known mixer.

    A subclass may compute something else, so it needs an adapter of its own.
    """
    return _ADAPTERS.get(type(module))


def mixers_of(model: nn.Module) -> dict[int, nn.Module]:
    """Every mixer of the model that has an adapter, by layer, ascending."""
    found = {}
    for module in model.modules():
        adapter = adapter_for(module)
        if adapter is not None:
            found[adapter.layer(module)] = module
    return dict(sorted(found.items()))
