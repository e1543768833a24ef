"""Which mixer each layer of a model carries, told from its config.json alone.

Keys and defaults are those of transformers' config classes of the same `model_type`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from catalogue.config import Config
from catalogue.shapes import SizeKeys
from schemas.names import Mixer
from schemas.problem import ProblemError, ProblemType

# Far above any real model; a config that claims more would only fill the memory.
_MOST_LAYERS = 10_000
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
# Words for a layer's block, old and new.
_STATE_SPACE = ("mamba", "linear_attention")
# Zamba's word: a block of attention, shared with other layers, before the state-space mixer.
_SHARED = "hybrid"
# Blocks that move nothing between tokens.
_WITHOUT = ("mlp", "moe")
# The letters of Nemotron-H's `hybrid_override_pattern`.
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


@dataclass(frozen=True)
class LayerMixers:
    """What moves information between tokens in one layer: the mixer that is read, and another."""

    own: Mixer
    beside: Mixer | None = None


@dataclass(frozen=True)
class Architecture:
    """An architecture with state-space mixers: their family, where its config keeps their sizes.

    blocks: the words for the blocks of its layers, or None where every layer is alike. beside: what
    runs beside the mixer in every layer.
    """

    mixer: Mixer
    sizes: SizeKeys
    blocks: Callable[[Config], list[str]] | None = None
    beside: Mixer | None = None


def layer_mixers(model_type: str, config: Config) -> list[LayerMixers]:
    """The mixers of every layer.

    An architecture that is not listed and has attention heads is taken for a transformer whose
    every layer attends, which loading tries; one without has no mixer that is known. Raises
    ProblemError (model-invalid, unsupported-architecture).
    """
    known = ARCHITECTURES.get(model_type)
    if known is None:
        if not config.has(*_LAYERS):
            detail = f"nothing here knows the layers of {model_type[:80]!r}"
            raise ProblemError(
                ProblemType.UNSUPPORTED_ARCHITECTURE,
                f"The model `{config.name}` cannot be analysed: {detail}.",
            )
        attends = config.has("num_attention_heads", "n_head", "num_heads")
        return [LayerMixers(Mixer.SOFTMAX if attends else Mixer.NONE)] * _count(config)
    if known.blocks is None:
        return [LayerMixers(known.mixer, known.beside)] * _count(config)
    return [_mixers(known.mixer, config, block) for block in known.blocks(config)]


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


def _mixers(mixer: Mixer, config: Config, block: str) -> LayerMixers:
    if block in _STATE_SPACE:
        return LayerMixers(mixer)
    if block == _SHARED:
        return LayerMixers(mixer, beside=Mixer.SOFTMAX)
    if block in _WITHOUT:
        return LayerMixers(Mixer.NONE)
    if block.endswith("attention"):
        return LayerMixers(Mixer.SOFTMAX)
    raise config.invalid(f"it names a block {block[:40]!r}, which is unknown")


_MAMBA = SizeKeys("state_size", "expand", channels="intermediate_size", rank="time_step_rank")
_BAMBA = SizeKeys(heads="mamba_n_heads", groups="mamba_n_groups")
ARCHITECTURES = {
    "mamba": Architecture(Mixer.S6, _MAMBA),
    "falcon_mamba": Architecture(Mixer.S6, _MAMBA),
    "jamba": Architecture(
        Mixer.S6, SizeKeys(rank="mamba_dt_rank"), _periodic("attention", period=8, offset=4)
    ),
    "zamba": Architecture(
        Mixer.S6,
        SizeKeys(rank="mamba_dt_rank", heads="n_mamba_heads"),
        _periodic(_SHARED, period=6, offset=4),
    ),
    "mamba2": Architecture(
        Mixer.SSD, SizeKeys("state_size", "expand", heads="num_heads", groups="n_groups")
    ),
    "bamba": Architecture(Mixer.SSD, _BAMBA, _bamba),
    "granitemoehybrid": Architecture(Mixer.SSD, _BAMBA, _plain),
    "zamba2": Architecture(
        Mixer.SSD, SizeKeys(heads="n_mamba_heads", groups="mamba_ngroups"), _plain
    ),
    "nemotron_h": Architecture(
        Mixer.SSD,
        SizeKeys(
            "ssm_state_size", heads="mamba_num_heads", head_size="mamba_head_dim", groups="n_groups"
        ),
        _nemotron,
    ),
    "falcon_h1": Architecture(
        Mixer.SSD, replace(_BAMBA, channels="mamba_d_ssm"), beside=Mixer.SOFTMAX
    ),
}
