"""Configs in mamba_ssm's own format, as the configs that transformers reads.

Source: mamba_ssm (github.com/state-spaces/mamba), `MambaConfig`, `MambaLMHeadModel`, and the
arguments of its layers `Mamba` (here Mamba1) and `Mamba2`. A key that is left out has the default
of those classes. What transformers cannot compute alike is refused; nothing is approximated.
"""

from dataclasses import dataclass
from typing import Any

from schemas.problem import ProblemError, ProblemType

# Where the tokenizer lies that these checkpoints were trained with: they have none themselves.
TOKENIZER_ID = "EleutherAI/gpt-neox-20b"
# The id of <|endoftext|> in that tokenizer, the only special token that they know.
_END_OF_TEXT = 0
_EPSILON = 1e-5

_KEYS = {
    *("d_model", "d_intermediate", "n_layer", "vocab_size", "ssm_cfg", "attn_layer_idx"),
    *("attn_cfg", "rms_norm", "residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple"),
    "tie_embeddings",
}
# What both layers know. `dt_min`, `dt_max`, `dt_init` and its kin, `conv_init` and `A_init_range`
# draw the first weights only; `use_fast_path`, `use_mem_eff_path` and `chunk_size` only choose how
# the same is computed.
_LAYER_KEYS = {
    *("layer", "d_state", "d_conv", "expand", "bias", "conv_bias"),
    *("dt_min", "dt_max", "dt_init_floor"),
}
_MAMBA_KEYS = _LAYER_KEYS | {"dt_rank", "dt_init", "dt_scale", "use_fast_path"}
_MAMBA2_KEYS = _LAYER_KEYS | {
    *("headdim", "d_ssm", "ngroups", "D_has_hdim", "rmsnorm", "norm_before_gate", "dt_limit"),
    *("conv_init", "A_init_range", "chunk_size", "use_mem_eff_path"),
}


def is_native(config: object) -> bool:
    """Whether a config.json is in mamba_ssm's own format: sizes by its names, and no model_type."""
    return (
        isinstance(config, dict)
        and config.get("model_type") is None
        and "d_model" in config
        and "n_layer" in config
    )


def as_transformers(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The config of the model `name` with transformers' keys, all sizes explicit.

    A config that is not native is returned as it is. Raises ProblemError: unsupported-architecture
    for a key that transformers cannot follow, model-invalid for one that is unknown or has a value
    of the wrong kind.
    """
    if not is_native(config):
        return config
    keys = _Section(config, name)
    keys.check_known(_KEYS)
    keys.check_fixed("attn_layer_idx", [], "its attention layers have no counterpart")
    keys.check_fixed("d_intermediate", 0, "its MLP layers have no counterpart")
    keys.check_fixed("rms_norm", True, "it normalises by LayerNorm")
    layer = _Section(keys.section("ssm_cfg"), name, "ssm_cfg.")
    translated = _shared(keys, layer)
    kind = layer.values.get("layer", "Mamba1")
    if kind == "Mamba1":
        return translated | _mamba(layer, translated["hidden_size"])
    if kind == "Mamba2":
        return translated | _mamba2(layer, translated["hidden_size"])
    raise layer.unsupported("layer", f"{str(kind)[:80]!r} is neither Mamba1 nor Mamba2")


@dataclass(frozen=True)
class _Section:
    """One object of a config; what it raises names the key."""

    values: dict[str, Any]
    name: str
    prefix: str = ""

    def positive(self, key: str, default: int | None = None) -> int:
        """A whole number above 0; without a default it must be there."""
        value = self.values.get(key, default)
        if value is None:
            raise self.invalid(f"it has no `{self.prefix}{key}`")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.invalid(f"`{self.prefix}{key}` must be a whole number above 0")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.invalid(f"`{self.prefix}{key}` must be true or false")
        return value

    def section(self, key: str) -> dict[str, Any]:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.invalid(f"`{self.prefix}{key}` must be an object")
        return value

    def check_known(self, known: set[str]) -> None:
        unknown = sorted(self.values.keys() - known)
        if unknown:
            raise self.invalid(
                f"nothing here knows its key `{self.prefix}{unknown[0][:80]}`; remove the key if "
                "the model computes the same without it"
            )

    def check_fixed(self, key: str, value: object, why: str) -> None:
        """Refuse a key that is there with any other value than this one."""
        if key in self.values and self.values[key] != value:
            raise self.unsupported(key, why)

    def invalid(self, why: str) -> ProblemError:
        detail = f"The config.json of `{self.name}` is not usable: {why}."
        return ProblemError(ProblemType.MODEL_INVALID, detail)

    def unsupported(self, key: str, why: str) -> ProblemError:
        detail = (
            f"The model `{self.name}` cannot be analysed: by `{self.prefix}{key}` of its "
            f"config.json, {why}, which its converter cannot express."
        )
        return ProblemError(ProblemType.UNSUPPORTED_ARCHITECTURE, detail)


def _shared(keys: _Section, layer: _Section) -> dict[str, Any]:
    """What both architectures say by the same keys; the vocabulary is padded as the rows are."""
    multiple = keys.positive("pad_vocab_size_multiple", 8)
    tokens = keys.positive("vocab_size")
    return {
        "hidden_size": keys.positive("d_model"),
        "num_hidden_layers": keys.positive("n_layer"),
        "vocab_size": -(-tokens // multiple) * multiple,
        "tie_word_embeddings": keys.flag("tie_embeddings", True),
        "residual_in_fp32": keys.flag("residual_in_fp32", True),
        "layer_norm_epsilon": _EPSILON,
        "hidden_act": "silu",
        "conv_kernel": layer.positive("d_conv", 4),
        "expand": layer.positive("expand", 2),
        "use_bias": layer.flag("bias", False),
        "use_conv_bias": layer.flag("conv_bias", True),
        "pad_token_id": _END_OF_TEXT,
        "bos_token_id": _END_OF_TEXT,
        "eos_token_id": _END_OF_TEXT,
    }


def _mamba(layer: _Section, hidden: int) -> dict[str, Any]:
    layer.check_known(_MAMBA_KEYS)
    automatic = layer.values.get("dt_rank", "auto") == "auto"
    return {
        "model_type": "mamba",
        "state_size": layer.positive("d_state", 16),
        "time_step_rank": -(-hidden // 16) if automatic else layer.positive("dt_rank"),
    }


def _mamba2(layer: _Section, hidden: int) -> dict[str, Any]:
    layer.check_known(_MAMBA2_KEYS)
    channels = layer.positive("expand", 2) * hidden
    size, groups = layer.positive("headdim", 64), layer.positive("ngroups", 1)
    if layer.values.get("d_ssm") is not None:
        layer.check_fixed("d_ssm", channels, "only a part of the channels passes the mixer")
    layer.check_fixed("D_has_hdim", False, "every channel has a D of its own")
    layer.check_fixed("rmsnorm", True, "its mixers do not normalise")
    layer.check_fixed("norm_before_gate", False, "its mixers normalise before the gate")
    if channels % size:
        raise layer.invalid(
            f"`ssm_cfg.headdim` is {size}, which does not divide its {channels} channels"
        )
    heads = channels // size
    if heads % groups:
        raise layer.invalid(f"`ssm_cfg.ngroups` is {groups}, which does not divide {heads} heads")
    return {
        "model_type": "mamba2",
        "state_size": layer.positive("d_state", 128),
        "head_dim": size,
        "num_heads": heads,
        "n_groups": groups,
        "chunk_size": layer.positive("chunk_size", 256),
        "time_step_rank": -(-hidden // 16),
        "time_step_limit": _limit(layer),
    }


def _limit(layer: _Section) -> tuple[float, float]:
    """The smallest and the largest Delta; by default any above 0."""
    given = layer.values.get("dt_limit", (0.0, float("inf")))
    if isinstance(given, list | tuple) and len(given) == 2:
        low, high = given
        if all(type(bound) in (int, float) for bound in given) and 0 <= low <= high:
            return float(low), float(high)
    raise layer.invalid("`ssm_cfg.dt_limit` must be two numbers, the smaller one first")
