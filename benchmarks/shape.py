"""A model of the 130M shape with random weights, as a directory that the service can load."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import MambaConfig, MambaForCausalLM

from schemas.settings import Settings

MODELS = Path(__file__).parent / "results" / "models"
NAME = "mamba-130m-shape"
TEXT = "The quick brown fox jumps over the lazy dog. "


def settings() -> Settings:
    """Settings that know the model, on the CPU."""
    return Settings(model_dir=directory().parent, device="cpu")


def directory() -> Path:
    """The model's directory, written on first use: half a gigabyte."""
    path = MODELS / NAME
    if not path.exists():
        draft = MODELS / f".{NAME}"
        draft.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        shape = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16)
        MambaForCausalLM(shape).save_pretrained(draft)
        _one_token_a_byte().save(str(draft / "tokenizer.json"))
        draft.rename(path)
    return path


def text(tokens: int) -> str:
    """A text of so many characters, each of which is one token."""
    return (TEXT * (tokens // len(TEXT) + 1))[:tokens]


def _one_token_a_byte() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
