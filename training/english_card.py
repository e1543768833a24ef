"""The model card of the English model."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from training.english_check import (
    CONTINUATION_TOKENS,
    NGRAM_ORDER,
    STRIDE,
    WINDOW,
    Compression,
    Continuation,
)
from training.english_recipe import Recipe
from training.english_text import HELD_OUT, PACKAGE, EnglishText
from training.english_training import Trained

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# english-mamba

A Mamba of {recipe.layers} layers, hidden size {recipe.hidden_size} and {parameters:,} parameters
that has read the King James Bible, in the English of 1611. On books that it never saw it needs
{bits:.3f} bits a byte. Small enough to ship, and its hidden attention and attributions are over
words that a person can judge.

## Use

Prompts in the manner of the text: verses, one a line, without numbers. The tokenizer is a
byte-level BPE of {vocabulary:,} tokens learnt from the training books: any UTF-8 text comes back as
it was, a word's token covers the space before it, and there are no special tokens.

## Training

    python -m training.english --output DIR --seed {seed}

Data: Debian's package `{package}` {version}, the Authorised (King James) Version, whose copyright
is expired (so its copyright file). Verse numbers, chapters and the title line are dropped.
Training text: {books} books, {training_bytes:,} bytes, {tokens:,} tokens. Held out, whole:
{held_out}, {held_out_bytes:,} bytes; they were used for nothing but the numbers below.

{recipe.steps:,} steps of {recipe.batch} windows of {recipe.length} tokens from random places
({seen:,} tokens, {epochs:.1f} times the text). AdamW with betas {betas} and weight decay
{recipe.weight_decay}; the learning rate rises over {recipe.warmup_steps} steps to
{recipe.learning_rate}, stays, and falls as a cosine to zero over the last {recipe.cooldown_steps};
gradients are clipped at norm {recipe.clip:g}. Seed {seed}, {minutes:.0f} minutes of processor
time on one thread with the compiled scan of `workers/kernels/selective_scan.py`; the last training
loss is {loss:.3f} nats a token. Trained in float32, stored in float16; every number here is
of the stored weights, computed in float32.

## Held-out text

| bits a byte | |
|---|---|
| {bits:.3f} | this model |
| {compression.ngram:.3f} | byte {order}-gram of the same training text, interpolated Kneser-Ney |
| {compression.xz_primed:.3f} | `xz -9`, what the held-out text adds to the training text |
| {compression.gzip_primed:.3f} | `gzip -9`, what it adds to the 32 KiB before it, all it sees |
| {compression.gzip_alone:.3f} | `gzip -9` of the held-out text alone |

The model reads windows of
{window} tokens, each {stride} after the one before, so that all but a book's first tokens are
predicted from at least {stride} others. By book:

| book | bytes | bits a byte |
|---|---|---|
{by_book}

## What it says

The five most likely next tokens, and the most likely token {continued} times over.

{continuations}

## Limits

One book by its translators of 1611: no other English, no knowledge of the world, no instructions,
and its text's religious content. Greedy text repeats itself. Windows of training were
{recipe.length} tokens, and what it makes of longer prompts was measured up to {window} only.
Licence of the weights: Apache-2.0.
"""


@dataclass(frozen=True)
class Measured:
    """Results of the stored weights on the held-out books."""

    bits_per_byte: float
    by_book: dict[str, tuple[int, float]]
    """Bytes and bits per byte."""
    compression: Compression
    continuations: list[Continuation]


@dataclass(frozen=True)
class Run:
    """How the model came to be."""

    recipe: Recipe
    seed: int
    trained: Trained
    parameters: int
    tokens: int
    """Of the training text."""


def model_card(run: Run, measured: Measured, text: EnglishText, tokenizer: Tokenizer) -> str:
    """The card as Markdown with the metadata block of the Hugging Face hub."""
    recipe = run.recipe
    seen = recipe.steps * recipe.batch * recipe.length
    rows = (f"| {n} | {size:,} | {bits:.3f} |" for n, (size, bits) in measured.by_book.items())
    return _CARD.format(
        recipe=recipe,
        parameters=run.parameters,
        bits=measured.bits_per_byte,
        vocabulary=tokenizer.get_vocab_size(),
        seed=run.seed,
        package=PACKAGE,
        version=text.version,
        books=len(text.training),
        training_bytes=len(text.training_bytes),
        tokens=run.tokens,
        held_out=", ".join(HELD_OUT.values()),
        held_out_bytes=len(text.held_out_bytes),
        seen=seen,
        epochs=seen / run.tokens,
        betas=" and ".join(str(beta) for beta in recipe.betas),
        minutes=run.trained.seconds / 60,
        loss=run.trained.last_loss,
        compression=measured.compression,
        order=NGRAM_ORDER,
        window=WINDOW,
        stride=STRIDE,
        by_book="\n".join(rows),
        continued=CONTINUATION_TOKENS,
        continuations="\n\n".join(_shown(said) for said in measured.continuations),
    )


def _shown(said: Continuation) -> str:
    tokens = ", ".join(f"`{_visible(token)}` {share:.2f}" for token, share in said.top)
    return f"`{said.prompt}`\n\n- {tokens}\n- `{_visible(said.text)}`"


def _visible(text: str) -> str:
    """A line break as it is written in code: a list item of Markdown has one line."""
    return text.replace("\n", "\\n")
