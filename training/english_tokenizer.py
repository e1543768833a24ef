"""A byte-level BPE: any UTF-8 comes back as it was, and offsets count characters of the text."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

VOCABULARY_SIZE = 2000


def english_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Merges learnt from `texts` over all 256 bytes, up to `VOCABULARY_SIZE` tokens.

    It has no special tokens: a text that spells one would not come back. A word's token covers the
    space before it, so that the offsets of ASCII text tile it.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
