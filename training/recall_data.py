"""Associative recall in words: nouns, each with a digit, then one noun; the answer is its digit.

Imports no torch: tests and demonstrations draw prompts from here.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

UNKNOWN, PADDING = "<unk>", "<pad>"
DIGITS = tuple("0123456789")
NOUNS = (
    "apple", "bird", "book", "bridge", "chair", "cloud", "door", "farm", "fish",
    "flower", "garden", "horse", "house", "island", "lamp", "moon", "mountain", "paper",
    "river", "road", "ship", "star", "stone", "table", "tree", "window",
)  # fmt: skip
VOCABULARY = (UNKNOWN, PADDING, *DIGITS, *NOUNS)
# The prompts that every stated accuracy is measured on; training draws from another generator.
HELD_OUT_SEED = 20_240_001


@dataclass(frozen=True)
class RecallPrompt:
    """One prompt; positions count tokens from 0, which are also its words."""

    text: str
    answer: str
    answer_position: int
    """The digit that must be read to answer."""
    key_position: int
    """The first occurrence of the noun that is asked for, one before the answer."""
    pairs: int


def recall_prompts(seed: int, count: int, pairs: int | Sequence[int]) -> list[RecallPrompt]:
    """`count` prompts drawn from `seed`; the same arguments give the same prompts.

    Args:
        seed: seeds a generator of this call's own.
        count: how many prompts.
        pairs: how many pairs each prompt holds; of a sequence, each prompt draws one number.

    Raises:
        ValueError: a number of pairs outside 1..26 (the nouns of a prompt are distinct).
    """
    choices = (pairs,) if isinstance(pairs, int) else tuple(pairs)
    if not choices or not all(1 <= number <= len(NOUNS) for number in choices):
        raise ValueError(f"pairs is {pairs!r}; give numbers from 1 to {len(NOUNS)}")
    generator = random.Random(seed)
    return [_draw(generator, generator.choice(choices)) for _ in range(count)]


def _draw(generator: random.Random, pairs: int) -> RecallPrompt:
    nouns = generator.sample(NOUNS, pairs)
    digits = generator.choices(DIGITS, k=pairs)
    asked = generator.randrange(pairs)
    words = [word for pair in zip(nouns, digits, strict=True) for word in pair]
    return RecallPrompt(
        text=" ".join([*words, nouns[asked]]),
        answer=digits[asked],
        answer_position=2 * asked + 1,
        key_position=2 * asked,
        pairs=pairs,
    )


def recall_tokenizer() -> Tokenizer:
    """One token per word, in lower case, split at white space and punctuation; others `<unk>`."""
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([UNKNOWN, PADDING])
    return tokenizer
