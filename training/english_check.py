"""What the English model is measured by: bits per byte beside simpler models, and what it says."""

import gzip
import lzma
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import MambaForCausalLM

from training.byte_ngram import ByteNgram
from training.english_text import EnglishText

WINDOW, STRIDE = 512, 256
NGRAM_ORDER = 5
# What a gzip stream can still point back to.
GZIP_WINDOW = 32 * 1024
PROMPTS = (
    "And the king said unto his servants,",
    "Then came the prophet down from the mountain, and",
    "The wise man shall",
)
CONTINUATION_TOKENS = 32


@dataclass(frozen=True)
class Compression:
    """Bits per byte of the held-out text by everything but the model."""

    gzip_alone: float
    gzip_primed: float
    """After the last 32 KiB of the training text: gzip sees no further back."""
    xz_primed: float
    """After all of the training text."""
    ngram: float


@dataclass(frozen=True)
class Continuation:
    """What the model says after a prompt."""

    prompt: str
    top: list[tuple[str, float]]
    """The five most likely next tokens with their probabilities."""
    text: str
    """The most likely token again and again."""


def bits_by_book(
    model: MambaForCausalLM, tokenizer: Tokenizer, books: dict[str, str]
) -> dict[str, float]:
    """Bits that the model needs for each book.

    Windows of `WINDOW` tokens, each starting `STRIDE` after the one before, so that all but a
    book's first tokens are predicted from at least `STRIDE` others. The first, which nothing
    predicts, costs log2 of the vocabulary.
    """
    return {
        name: _bits(model, torch.tensor(tokenizer.encode(text).ids)) for name, text in books.items()
    }


def bits_per_byte(bits: dict[str, float], books: dict[str, str]) -> float:
    """Of all books together."""
    return sum(bits.values()) / sum(len(text.encode()) for text in books.values())


def _bits(model: MambaForCausalLM, ids: Tensor) -> float:
    total = math.log2(model.config.vocab_size)
    done = 1
    for start in range(0, len(ids), STRIDE):
        window = ids[start : start + WINDOW]
        if start + len(window) <= done:
            break
        with torch.no_grad():
            logits = model(window[None, :-1], use_cache=False).logits[0]
        nats = torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")
        total += float(nats[done - start - 1 :].double().sum()) / math.log(2)
        done = start + len(window)
    return total


def compression(text: EnglishText) -> Compression:
    """The same held-out bytes by gzip, xz and an n-gram model of the same training text."""
    training, held_out = text.training_bytes, text.held_out_bytes
    seen = training[-GZIP_WINDOW:]
    return Compression(
        gzip_alone=8 * _gzip(held_out) / len(held_out),
        gzip_primed=8 * (_gzip(seen + held_out) - _gzip(seen)) / len(held_out),
        xz_primed=8 * (_xz(training + held_out) - _xz(training)) / len(held_out),
        ngram=ByteNgram(training, NGRAM_ORDER).bits_per_byte(held_out),
    )


def _gzip(data: bytes) -> int:
    return len(gzip.compress(data, compresslevel=9, mtime=0))


def _xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=9))


def continuations(
    model: MambaForCausalLM, tokenizer: Tokenizer, prompts: Iterable[str] = PROMPTS
) -> list[Continuation]:
    """The five likeliest next tokens and the greedy continuation of each prompt."""
    return [_continuation(model, tokenizer, prompt) for prompt in prompts]


def _continuation(model: MambaForCausalLM, tokenizer: Tokenizer, prompt: str) -> Continuation:
    ids = tokenizer.encode(prompt).ids
    start = len(ids)
    top: list[tuple[str, float]] = []
    for _ in range(CONTINUATION_TOKENS):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        if not top:
            shares, tokens = logits.softmax(-1).topk(5)
            texts = [tokenizer.decode([token]) for token in tokens.tolist()]
            top = list(zip(texts, shares.tolist(), strict=True))
        ids.append(int(logits.argmax()))
    return Continuation(prompt, top, tokenizer.decode(ids[start:]))
