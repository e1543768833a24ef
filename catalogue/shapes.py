"""How large each layer of a model is, told from its config.json alone.

Keys and defaults are those of transformers' config classes of the same `model_type`.
"""

from dataclasses import dataclass

from catalogue.config import Config
from schemas.names import Mixer

HIDDEN = ("hidden_size", "n_embd", "d_model")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Shape:
    """A layer's mixer: channels, heads, groups of heads that share B and C, states of either.

    None for what the mixer does not have.
    """

    channels: int | None = None
    heads: int | None = None
    groups: int | None = None
    d_state: int | None = None


@dataclass(frozen=True)
class SizeKeys:
    """Where the configs of an architecture keep the sizes of their state-space mixers.

    channels may be left out of a config, which then has `expand` times the hidden size; None for
    what the architecture does not have.
    """

    states: str = "mamba_d_state"
    expand: str = "mamba_expand"
    channels: str | None = None
    rank: str | None = None
    heads: str | None = None
    head_size: str | None = None
    groups: str | None = None


def state_space(keys: SizeKeys, config: Config) -> Shape:
    """The shape of the architecture's state-space mixers."""
    heads = None if keys.heads is None else config.positive(keys.heads)
    if heads is not None and keys.head_size is not None:
        channels = heads * config.positive(keys.head_size)
    else:
        channels = _channels(config, keys)
    groups = None if keys.groups is None else config.positive(keys.groups)
    return Shape(channels, heads, groups, config.positive(keys.states))


def step_rank(keys: SizeKeys, config: Config) -> int | None:
    """The rank of an S6 mixer's Delta; left out or `auto`, it is a sixteenth of the hidden size."""
    if keys.rank is None:
        return None
    if config.values.get(keys.rank) in (None, "auto"):
        return -(-config.positive(*HIDDEN) // 16)
    return config.positive(keys.rank)


def attention(config: Config) -> Shape:
    """The shape of the architecture's attention."""
    heads = config.positive("num_attention_heads", "n_head", "num_heads")
    usual = config.positive(*HIDDEN) // heads
    size = config.positive("attention_head_dim", "v_head_dim", "head_dim", default=max(1, usual))
    return Shape(heads * size, heads)


def window(config: Config) -> int | None:
    """Tokens that attention with a sliding window reads back; None without one.

    The library takes anything but a whole number above 0 for no window in its own ways.
    """
    found = config.values.get("sliding_window")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        return None
    return None if config.values.get("use_sliding_window") is False else found


def mlp_neurons(config: Config, mixers: set[Mixer]) -> int | None:
    """Neurons of each layer's MLP: 0 without MLPs; None where the config alone does not tell.

    Of experts each token passes others; and what several layers share belongs to none of them.
    """
    if config.has(*_EXPERTS) or config.values.get("model_type") in ("zamba", "zamba2"):
        return None
    return mlp_channels(config, mixers) or 0


def mlp_channels(config: Config, mixers: set[Mixer]) -> int | None:
    """Neurons of a layer's MLPs that one token passes, experts included; None without MLPs."""
    if mixers <= {Mixer.S6, Mixer.SSD} and not config.has("num_attention_heads"):
        return None
    hidden = config.positive(*HIDDEN)
    width = config.widest("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden)
    experts = config.has(*_EXPERTS)
    active = config.positive("num_experts_per_tok", default=1) if experts else 1
    shared = config.whole("shared_intermediate_size", 0)
    return active * width + shared


def _channels(config: Config, keys: SizeKeys) -> int:
    """Under their own key, which transformers puts before `expand` times the hidden size."""
    if keys.channels is not None and config.has(keys.channels):
        return config.positive(keys.channels)
    channels = config.factor(keys.expand) * config.positive(*HIDDEN)
    if channels < 1 or channels == float("inf"):
        raise config.invalid(f"`{keys.expand}` leaves no channel")
    return int(channels)
