"""One adapter per class of mixer modules: from a module to its hidden attention."""

from torch import nn

from workers.mixers.attention import AttentionAdapter
from workers.mixers.falcon_h1 import FalconH1Adapter
from workers.mixers.falcon_mamba import FalconMambaAdapter
from workers.mixers.jamba import JambaAdapter
from workers.mixers.mamba import MambaAdapter
from workers.mixers.mamba2 import Mamba2Adapter
from workers.mixers.protocol import MixerAdapter
from workers.mixers.zamba import ZambaAdapter

_MODELS = "transformers.models."
ATTENTION = AttentionAdapter()
# By the whole name of the module's class, under `_MODELS`.
_ADAPTERS: dict[str, MixerAdapter] = {
    "mamba.modeling_mamba.MambaMixer": MambaAdapter(),
    "falcon_mamba.modeling_falcon_mamba.FalconMambaMixer": FalconMambaAdapter(),
    "jamba.modeling_jamba.JambaMambaMixer": JambaAdapter(),
    "zamba.modeling_zamba.ZambaMambaMixer": ZambaAdapter(),
    "mamba2.modeling_mamba2.Mamba2Mixer": Mamba2Adapter(),
    "bamba.modeling_bamba.BambaMixer": Mamba2Adapter(),
    "granitemoehybrid.modeling_granitemoehybrid.GraniteMoeHybridMambaLayer": Mamba2Adapter(),
    "nemotron_h.modeling_nemotron_h.NemotronHMamba2Mixer": Mamba2Adapter(),
    "zamba2.modeling_zamba2.Zamba2MambaMixer": Mamba2Adapter(),
    "falcon_h1.modeling_falcon_h1.FalconH1Mixer": FalconH1Adapter(),
}


def adapter_for(module: nn.Module) -> MixerAdapter | None:
    """The adapter that traces this very class of module, or None if it is no known mixer.

    A subclass may compute something else, so it needs an adapter of its own; but all of
    transformers' attention modules have one, for they hand their heads to the same function.
    """
    kind = type(module)
    if not kind.__module__.startswith(_MODELS):
        return None
    found = _ADAPTERS.get(f"{kind.__module__.removeprefix(_MODELS)}.{kind.__qualname__}")
    # A block that several layers share has no layer of its own.
    index = getattr(module, "layer_idx", None)
    has_layer = isinstance(index, int) and index >= 0
    is_attention = kind.__name__.endswith("Attention") and has_layer
    return ATTENTION if found is None and is_attention else found


def adapter_of(module: nn.Module) -> MixerAdapter:
    """The adapter of a mixer that has one. Raises TypeError."""
    adapter = adapter_for(module)
    if adapter is None:
        raise TypeError(f"no adapter traces {type(module).__name__}")
    return adapter


def mixers_of(model: nn.Module) -> dict[int, nn.Module]:
    """Every mixer of the model that has an adapter, by layer, ascending.

    Of a layer that has attention beside a state-space mixer, the latter.
    """
    found: dict[int, nn.Module] = {}
    for module in model.modules():
        adapter = adapter_for(module)
        if adapter is not None:
            layer = adapter.layer(module)
            if adapter is not ATTENTION or layer not in found:
                found[layer] = module
    return dict(sorted(found.items()))
