"""Tiny random models saved as a user's model directory: config, safetensors, tokenizer.json."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

UNKNOWN = "<unk>"
WORDS = tuple(f"w{index}" for index in range(36))
VOCABULARY = 40
LAYERS = 3
# Where mixers keep the bias of Delta before its softplus.
_STEPS = ("dt_bias", "dt_proj.bias", "dt_proj_bias")


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
    return save_model(MambaForCausalLM, made, directory, seed, dtype)


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
    return save_model(GPT2LMHeadModel, config, directory, seed)


def save_model(
    architecture: Any,
    config: Any,
    directory: Path,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A random model of an architecture's class, with `word_tokenizer`."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = architecture(config)
        # Fresh models have zero biases, D = 1 and no spread in A: noise makes every term count.
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        # Some forget everything within a few tokens, and nothing distant would count.
        for name, parameter in model.named_parameters():
            if name.endswith(_STEPS) and parameter.mean() > -1:
                parameter.sub_(5)
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
