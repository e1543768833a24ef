"""A tiny random model of every architecture that has an adapter, saved as a user's directory."""

from pathlib import Path
from typing import Any, Protocol

import transformers

from schemas.names import Mixer
from tests.tiny_models import VOCABULARY, save_mamba, save_model

S6, SSD, SOFTMAX, NONE = Mixer.S6, Mixer.SSD, Mixer.SOFTMAX, Mixer.NONE
Sizes = dict[str, Any]

_ENDS: Sizes = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
_SIZES: Sizes = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    **_ENDS,
}
_SHARED: Sizes = {"num_key_value_heads": 2, "head_dim": 8}
_MAMBA: Sizes = {
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_d_conv": 3,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}


class Saver(Protocol):
    """Saves a model of one architecture, with changes to the sizes of its config."""

    def __call__(self, directory: Path, /, *, seed: int = 0, **changes: Any) -> Path:
        """The directory."""
        ...


def saver(architecture: str, **sizes: Any) -> Saver:
    """One for transformers' classes of this name: `{architecture}Config` and so on."""

    def save(directory: Path, /, *, seed: int = 0, **changes: Any) -> Path:
        config = getattr(transformers, f"{architecture}Config")(**(sizes | changes))
        # Of a model of several kinds of input, the one for text.
        name = architecture.removesuffix("Text")
        causal = f"{name}{'LMHeadModel' if name == 'GPT2' else 'ForCausalLM'}"
        return save_model(getattr(transformers, causal), config, directory, seed)

    return save


save_falcon_mamba = saver(
    "FalconMamba",
    vocab_size=VOCABULARY,
    hidden_size=48,
    state_size=8,
    conv_kernel=3,
    time_step_rank=5,
    num_hidden_layers=3,
    tie_word_embeddings=False,
)
# Experts after layers 1 and 3.
save_jamba = saver(
    "Jamba",
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=20,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    attn_layer_period=4,
    attn_layer_offset=2,
    num_experts=3,
    num_experts_per_tok=2,
    mamba_d_state=7,
    mamba_d_conv=3,
    mamba_dt_rank=5,
    max_position_embeddings=512,
)
# Two S6 heads of 48 channels; the hybrid layers share one block of attention.
save_zamba = saver(
    "Zamba",
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=20,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    # transformers builds none with a single hybrid layer.
    layers_block_type=["linear_attention", "hybrid"] * 2,
    n_mamba_heads=2,
    mamba_d_state=7,
    mamba_d_conv=3,
    mamba_dt_rank=5,
    max_position_embeddings=512,
)
save_mamba2 = saver(
    "Mamba2",
    vocab_size=VOCABULARY,
    hidden_size=48,
    num_heads=6,
    head_dim=16,
    n_groups=2,
    state_size=8,
    conv_kernel=3,
    chunk_size=8,
    num_hidden_layers=3,
    tie_word_embeddings=False,
    **_ENDS,
)

ARCHITECTURES: dict[str, tuple[Saver, list[Mixer]]] = {
    "mamba": (save_mamba, [S6] * 3),
    "falcon_mamba": (save_falcon_mamba, [S6] * 3),
    "jamba": (save_jamba, [S6, S6, SOFTMAX, S6]),
    "zamba": (save_zamba, [S6] * 4),
    "mamba2": (save_mamba2, [SSD] * 3),
    "bamba": (
        saver("Bamba", **_SIZES, num_key_value_heads=2, **_MAMBA, attn_layer_indices=[1]),
        [SSD, SOFTMAX, SSD],
    ),
    "granitemoehybrid": (
        saver(
            "GraniteMoeHybrid",
            **_SIZES,
            **_MAMBA,
            num_key_value_heads=2,
            layer_types=["mamba", "attention", "mamba"],
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=32,
            logits_scaling=3.0,
            embedding_multiplier=2.0,
            attention_multiplier=0.3,
            residual_multiplier=0.7,
        ),
        [SSD, SOFTMAX, SSD],
    ),
    "nemotron_h": (
        saver(
            "NemotronH",
            vocab_size=VOCABULARY,
            hidden_size=48,
            layers_block_type=["mamba", "attention", "mlp", "mamba"],
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=12,
            mamba_num_heads=6,
            mamba_head_dim=16,
            n_groups=2,
            ssm_state_size=8,
            conv_kernel=3,
            chunk_size=8,
            tie_word_embeddings=False,
            **_ENDS,
        ),
        [SSD, SOFTMAX, NONE, SSD],
    ),
    "zamba2": (
        saver(
            "Zamba2",
            vocab_size=VOCABULARY,
            hidden_size=48,
            num_hidden_layers=3,
            layers_block_type=["mamba", "hybrid", "mamba"],
            mamba_d_state=8,
            mamba_d_conv=3,
            mamba_expand=2,
            mamba_ngroups=2,
            n_mamba_heads=6,
            mamba_headdim=16,
            num_attention_heads=4,
            intermediate_size=64,
            chunk_size=8,
            max_position_embeddings=256,
            num_mem_blocks=1,
            adapter_rank=4,
            **_ENDS,
        ),
        [SSD] * 3,
    ),
    "falcon_h1": (
        saver(
            "FalconH1",
            **_SIZES,
            **_MAMBA,
            num_key_value_heads=2,
            mamba_d_ssm=96,
            mamba_rms_norm=True,
            mamba_norm_before_gate=False,
            ssm_in_multiplier=0.8,
            ssm_multipliers=[0.9, 1.1, 0.7, 1.2, 0.8],
            ssm_out_multiplier=1.1,
            lm_head_multiplier=0.5,
            attention_in_multiplier=1.3,
            attention_out_multiplier=0.9,
            key_multiplier=0.6,
            mlp_multipliers=[1.1, 0.9],
            embedding_multiplier=2.0,
        ),
        [SSD] * 3,
    ),
    "gpt2": (
        saver(
            "GPT2", vocab_size=VOCABULARY, n_embd=48, n_layer=3, n_head=6, n_positions=256, **_ENDS
        ),
        [SOFTMAX] * 3,
    ),
    "gpt_neox": (saver("GPTNeoX", **_SIZES), [SOFTMAX] * 3),
    "llama": (saver("Llama", **_SIZES, **_SHARED), [SOFTMAX] * 3),
    "qwen2": (saver("Qwen2", **_SIZES, num_key_value_heads=2), [SOFTMAX] * 3),
    "qwen3": (saver("Qwen3", **_SIZES, **_SHARED), [SOFTMAX] * 3),
    "mistral": (saver("Mistral", **_SIZES, **_SHARED, sliding_window=7), [SOFTMAX] * 3),
    "gemma2": (saver("Gemma2", **_SIZES, **_SHARED, sliding_window=7), [SOFTMAX] * 3),
    "opt": (
        saver(
            "OPT",
            vocab_size=VOCABULARY,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=6,
            ffn_dim=64,
            max_position_embeddings=256,
            word_embed_proj_dim=48,
            **_ENDS,
        ),
        [SOFTMAX] * 3,
    ),
}
