"""Tiny model directories: a config and a word-level tokenizer, and weights only on request."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Dtype, Method, Mixer
from schemas.request import select_layers

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
    "n_head": 2,
    "n_layer": 2,
    "n_positions": 4,
    "vocab_size": 8,
}


def described(**changes: Any) -> ModelDescription:
    """A Mamba of 130 million parameters: 24 layers of hidden size 768, 50280 tokens."""
    count = changes.pop("layers", 24)
    shape = {"channels": changes.get("channels", 1536), "d_state": changes.get("d_state", 16)}
    layer = {"mixer": Mixer.S6, "methods": list(Method), **shape}
    sizes = {
        "id": "mamba",
        "source": "directory",
        "architecture": "mamba",
        "layers": [LayerDescription(layer=index, **layer) for index in range(count)],
        "hidden_size": 768,
        "channels": 1536,
        "d_state": 16,
        "dt_rank": 48,
        "vocab_size": 50280,
        "parameters": 129_135_360,
        "stored_bytes": 4 * 129_135_360,
        "dtype": Dtype.FLOAT32,
        "max_tokens": 4096,
        "max_row_tokens": 131072,
        "default_layers": select_layers(None, count),
        "resident_on": [],
    }
    return ModelDescription.model_validate(sizes | changes)


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


def save_weights(directory: Path, count: int, dtype: type[np.generic] = np.float32) -> Path:
    """Weights of that many numbers, which nothing reads but their size."""
    save_file({"weights": np.zeros(count, dtype)}, directory / "model.safetensors")
    return directory


def declare_weights(directory: Path, count: int) -> Path:
    """Weights of that many float32 numbers in a file that takes no room on the disk."""
    entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
    header = json.dumps({"weights": entry}).encode()
    with (directory / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 4 * count)
    return directory
