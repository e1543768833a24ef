"""Which mixer each layer of a model carries, told from its config.json alone.

Keys and defaults are those of transformers' config classes of the same `model_type`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from catalogue.config import Config
from schemas.names import Mixer

# Far above any real model; a config that claims more would only fill the memory.
_MOST_LAYERS = 10_000
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
# Words for a layer's block, old and new.
_STATE_SPACE = ("mamba", "linear_attention")
# Zamba's word: a block of attention, shared with other layers, before the state-space mixer.
_SHARED = "hybrid"
_WITHOUT = ("mlp", "moe")
# The letters of Nemotron-H's `hybrid_override_pattern`.
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}

_UNIFORM = {
    "mamba": Mixer.S6,
    "falcon_mamba": Mixer.S6,
    "mamba2": Mixer.SSD,
    "falcon_h1": Mixer.SSD,
}
_HYBRIDS = {
    "jamba": Mixer.S6,
    "zamba": Mixer.S6,
    "bamba": Mixer.SSD,
    "granitemoehybrid": Mixer.SSD,
    "nemotron_h": Mixer.SSD,
    "zamba2": Mixer.SSD,
}


# Every layer has attention beside its state-space mixer.
_PARALLEL = ("falcon_h1",)


@dataclass(frozen=True)
class LayerMixers:
    """What moves information between tokens in one layer: the mixer that is read, and another."""

    own: Mixer
    beside: Mixer | None = None


def layer_mixers(model_type: str, config: Config) -> list[LayerMixers]:
    """The mixers of every layer.

    An architecture that is not listed and has attention heads is taken for a transformer whose
    every layer attends, which loading tries; one without has no mixer that is known. Raises
    ProblemError (model-invalid).
    """
    if model_type in _HYBRIDS:
        blocks = _BLOCKS[model_type](config)
        return [_mixers(model_type, config, block) for block in blocks]
    count = _count(config)
    if model_type in _UNIFORM:
        beside = Mixer.SOFTMAX if model_type in _PARALLEL else None
        return [LayerMixers(_UNIFORM[model_type], beside)] * count
    attends = config.has("num_attention_heads", "n_head")
    return [LayerMixers(Mixer.SOFTMAX if attends else Mixer.NONE)] * count


def _periodic(other: str, period: int, offset: int) -> Callable[[Config], list[str]]:
    """Blocks named one by one, or else one `other` in a period."""

    def blocks(config: Config) -> list[str]:
        every = config.positive("attn_layer_period", default=period)
        at = config.whole("attn_layer_offset", offset)
        usual = [other if i % every == at else "mamba" for i in range(_count(config))]
        return _named(config, usual)

    return blocks


def _plain(config: Config) -> list[str]:
    """Blocks named one by one, or else all state-space."""
    return _named(config, ["mamba"] * _count(config))


def _bamba(config: Config) -> list[str]:
    listed = config.values.get("attn_layer_indices")
    attention = listed if isinstance(listed, list) else []
    return ["attention" if i in attention else "mamba" for i in range(_count(config))]


def _nemotron(config: Config) -> list[str]:
    """The list decides how many layers there are, whatever `num_hidden_layers` says."""
    words, pattern = config.words("layers_block_type"), config.values.get("hybrid_override_pattern")
    if words is None and isinstance(pattern, str):
        unknown = sorted(set(pattern) - _LETTERS.keys())
        if unknown:
            raise config.invalid(f"`hybrid_override_pattern` has an unknown {unknown[0]!r}")
        words = [_LETTERS[letter] for letter in pattern]
    if not words:
        raise config.invalid("it has no `layers_block_type`")
    return words


_BLOCKS: dict[str, Callable[[Config], list[str]]] = {
    "jamba": _periodic("attention", period=8, offset=4),
    "zamba": _periodic("hybrid", period=6, offset=4),
    "zamba2": _plain,
    "bamba": _bamba,
    "granitemoehybrid": _plain,
    "nemotron_h": _nemotron,
}


def _named(config: Config, usual: list[str]) -> list[str]:
    words = config.words("layers_block_type", "layer_types")
    if words is not None and len(words) != len(usual):
        raise config.invalid(f"it names the blocks of {len(words)} of {len(usual)} layers")
    return usual if words is None else words


def _count(config: Config) -> int:
    count = config.positive(*_LAYERS)
    if count > _MOST_LAYERS:
        raise config.invalid(f"it claims {count} layers; at most {_MOST_LAYERS} are read")
    return count


def _mixers(model_type: str, config: Config, block: str) -> LayerMixers:
    if block in _STATE_SPACE:
        return LayerMixers(_HYBRIDS[model_type])
    if block == _SHARED:
        return LayerMixers(_HYBRIDS[model_type], beside=Mixer.SOFTMAX)
    if block in _WITHOUT:
        return LayerMixers(Mixer.NONE)
    if block.endswith("attention"):
        return LayerMixers(Mixer.SOFTMAX)
    raise config.invalid(f"it names a block {block[:40]!r}, which is unknown")
