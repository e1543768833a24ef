"""The three architectures that learn recall, each as a random model with its recipe."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from training.recall_data import PADDING, VOCABULARY
from training.recall_recipe import Recipe

_TOKENS = {
    "vocab_size": len(VOCABULARY),
    "pad_token_id": VOCABULARY.index(PADDING),
    "bos_token_id": None,
    "eos_token_id": None,
}
_GPT2_POSITIONS = 128
_TRAINED_TOKENS = 2 * (Recipe.last_pairs + Recipe.queries)


@dataclass(frozen=True)
class Architecture:
    """One kind of mixer and how a model of it learns the task."""

    title: str
    """As the model card writes it."""
    build: Callable[[], PreTrainedModel]
    recipe: Recipe
    runs_on: str
    """What computes its mixers in training, for the card."""
    limits: str = ""
    """What the card says besides, a sentence with a space before it."""


def new_model(architecture: str, seed: int) -> PreTrainedModel:
    """A random two-layer model over the recall vocabulary, the same for the same seed."""
    torch.manual_seed(seed)
    return ARCHITECTURES[architecture].build()


def _mamba() -> PreTrainedModel:
    return MambaForCausalLM(
        MambaConfig(
            hidden_size=64, num_hidden_layers=2, state_size=16, conv_kernel=4, expand=2, **_TOKENS
        )
    )


def _mamba2() -> PreTrainedModel:
    return Mamba2ForCausalLM(
        Mamba2Config(
            hidden_size=64,
            num_hidden_layers=2,
            state_size=32,
            conv_kernel=4,
            expand=2,
            num_heads=4,
            head_dim=32,
            n_groups=1,
            # The longest training sequence: transformers' own code pads every text to a chunk.
            chunk_size=_TRAINED_TOKENS,
            tie_word_embeddings=True,
            **_TOKENS,
        )
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=64,
            n_layer=2,
            n_head=4,
            n_positions=_GPT2_POSITIONS,
            # At GPT-2's own 0.02, made for wider models, attention starts out as even as it can be.
            initializer_range=0.1,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **_TOKENS,
        )
    )


ARCHITECTURES = {
    "mamba": Architecture(
        "Mamba", _mamba, Recipe(), "the compiled scan of `workers/kernels/selective_scan.py`"
    ),
    "mamba2": Architecture(
        "Mamba-2", _mamba2, Recipe(final_steps=1500), "the scan of `workers/kernels/ssd_scan.py`"
    ),
    "gpt2": Architecture(
        "GPT-2",
        _gpt2,
        Recipe(learning_rate=1e-3, final_steps=1000),
        "transformers' own PyTorch code",
        f" It has {_GPT2_POSITIONS} positions; training used the first {_TRAINED_TOKENS}.",
    ),
}
