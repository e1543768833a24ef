"""Tiny model directories: a config and a word-level tokenizer, no weights."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("apple", "river", "stone", "1", "3", "7")
UNKNOWN = "<unk>"

MAMBA: dict[str, Any] = {
    "model_type": "mamba",
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "state_size": 4,
    "expand": 2,
    "vocab_size": 8,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 8,
    "n_layer": 2,
    "n_positions": 4,
    "vocab_size": 8,
}


def word_tokenizer() -> Tokenizer:
    """One token a word; every other word is the unknown token."""
    vocabulary = {word: index for index, word in enumerate((UNKNOWN, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def save_model(
    directory: Path, config: dict[str, Any] = MAMBA, tokenizer: Tokenizer | None = None
) -> Path:
    """Write the two files that the catalogue reads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    (tokenizer or word_tokenizer()).save(str(directory / "tokenizer.json"))
    return directory
