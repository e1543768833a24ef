"""Which mixer each layer of a model carries, told from its config.json alone.

Keys and defaults are those of transformers' config classes of the same `model_type`.
"""

from collections.abc import Callable

from catalogue.config import Config
from schemas.names import Mixer

# Far above any real model; a config that claims more would only fill the memory.
_MOST_LAYERS = 10_000
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
# Words for a layer's block, old and new. A hybrid layer of Zamba has a shared attention block
# before its own state-space mixer, which is what is read.
_STATE_SPACE = ("mamba", "linear_attention", "hybrid")
_WITHOUT = ("mlp", "moe")
# The letters of Nemotron-H's `hybrid_override_pattern`.
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}

_UNIFORM = {
    "mamba": Mixer.S6,
    "falcon_mamba": Mixer.S6,
    "mamba2": Mixer.SSD,
    # Its attention runs beside the state-space mixer of the same layer, which is what is read.
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


def layer_mixers(model_type: str, config: Config) -> list[Mixer]:
    """The mixer of every layer.

    An architecture that is not listed and has attention heads is taken for a transformer whose
    every layer attends; whoever loads it finds out. Raises ProblemError (model-invalid).
    """
    if model_type in _HYBRIDS:
        blocks = _BLOCKS[model_type](config)
        return [_mixer(model_type, config, block) for block in blocks]
    count = _count(config)
    if model_type in _UNIFORM:
        return [_UNIFORM[model_type]] * count
    attends = config.has("num_attention_heads", "n_head")
    return [Mixer.SOFTMAX if attends else Mixer.NONE] * count


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


def _mixer(model_type: str, config: Config, block: str) -> Mixer:
    if block in _STATE_SPACE:
        return _HYBRIDS[model_type]
    if block in _WITHOUT:
        return Mixer.NONE
    if block.endswith("attention"):
        return Mixer.SOFTMAX
    raise config.invalid(f"it names a block {block[:40]!r}, which is unknown")
