"""Tiny random models saved as a user's model directory: config, safetensors, tokenizer.json."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    JambaConfig,
    JambaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    ZambaConfig,
    ZambaForCausalLM,
)

UNKNOWN = "<unk>"
WORDS = tuple(f"w{index}" for index in range(36))
VOCABULARY = 40
LAYERS = 3


def word_tokenizer(words: tuple[str, ...] = WORDS) -> Tokenizer:
    """One token a word: <unk> is 0, w0 is 1, and so on."""
    vocabulary = {word: index for index, word in enumerate((UNKNOWN, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def save_mamba(
    directory: Path,
    *,
    bias: bool = False,
    conv_bias: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Path:
    """A Mamba of odd sizes: hidden 48, d_state 8, conv 3, dt_rank 5, 3 layers, untied head."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "state_size": 8,
        "conv_kernel": 3,
        "time_step_rank": 5,
        "num_hidden_layers": LAYERS,
        "tie_word_embeddings": False,
    }
    made = MambaConfig(use_bias=bias, use_conv_bias=conv_bias, **(sizes | config))
    return _save(MambaForCausalLM, made, directory, seed, dtype)


def save_mamba2(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """A Mamba-2 of odd sizes: hidden 48, 6 heads of 16 in 2 groups, d_state 8, 3 layers."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "num_heads": 6,
        "head_dim": 16,
        "n_groups": 2,
        "state_size": 8,
        "conv_kernel": 3,
        "chunk_size": 8,
        "num_hidden_layers": LAYERS,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    made = Mamba2Config(**(sizes | config))
    return _save(Mamba2ForCausalLM, made, directory, seed, torch.float32)


def save_falcon_mamba(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """A FalconMamba of the sizes of `save_mamba`, untied head."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "state_size": 8,
        "conv_kernel": 3,
        "time_step_rank": 5,
        "num_hidden_layers": LAYERS,
        "tie_word_embeddings": False,
    }
    made = FalconMambaConfig(**(sizes | config))
    return _save(FalconMambaForCausalLM, made, directory, seed, torch.float32)


def save_jamba(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """A Jamba of S6 layers 0, 1 and 3 and an attention layer 2, experts after layers 1 and 3."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 20,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "num_experts": 3,
        "num_experts_per_tok": 2,
        "mamba_d_state": 7,
        "mamba_d_conv": 3,
        "mamba_dt_rank": 5,
        "max_position_embeddings": 512,
    }
    made = JambaConfig(**(sizes | config))
    return _save(JambaForCausalLM, made, directory, seed, torch.float32)


def save_zamba(directory: Path, *, seed: int = 0, **config: Any) -> Path:
    """A Zamba of two S6 heads of 48 channels; layers 1 and 3 are hybrid, sharing one block."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 20,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        # transformers builds none with a single hybrid layer.
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "n_mamba_heads": 2,
        "mamba_d_state": 7,
        "mamba_d_conv": 3,
        "mamba_dt_rank": 5,
        "max_position_embeddings": 512,
    }
    made = ZambaConfig(**(sizes | config))
    return _save(ZambaForCausalLM, made, directory, seed, torch.float32)


def save_gpt2(directory: Path, *, seed: int = 0) -> Path:
    """A GPT-2 of two layers with 32 positions: no S6 mixer anywhere."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _save(GPT2LMHeadModel, config, directory, seed, torch.float32)


def _save(architecture: Any, config: Any, directory: Path, seed: int, dtype: torch.dtype) -> Path:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = architecture(config)
        # Fresh models have zero biases, D = 1 and no spread in A: noise makes every term count.
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    model.to(dtype).save_pretrained(directory)
    word_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: on models this small, waiting for a second one is most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
