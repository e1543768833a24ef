"""The byte n-gram model against its formula written out, and as a distribution."""

from collections import Counter

import numpy as np
import pytest

from training.byte_ngram import ByteNgram

TEXT = b"the cat sat on the mat. the dog sat on the log.\n" * 3 + b"a hat and a bat\n"
UNSEEN = b"the rat sat in a hat; why?"


class SlowNgram:
    """p_n(w | h) by dictionaries and recursion."""

    def __init__(self, text: bytes, order: int) -> None:
        self.counts: dict[int, Counter[bytes]] = {}
        padded = b"\n" * (order - 1) + text
        self.counts[order] = Counter(padded[i : i + order] for i in range(len(text)))
        for n in range(order - 1, 0, -1):
            self.counts[n] = Counter(gram[1:] for gram in self.counts[n + 1])
        self.order = order

    def probability(self, context: bytes, word: int, n: int) -> float:
        if n == 0:
            return 1 / 256
        lower = self.probability(context, word, n - 1)
        grams, h = self.counts[n], context[len(context) - (n - 1) :]
        seen = {gram: count for gram, count in grams.items() if gram[:-1] == h}
        if not seen:
            return lower
        once, twice = (sum(count == k for count in grams.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        kept = max(seen.get(h + bytes([word]), 0) - discount, 0)
        return (kept + discount * len(seen) * lower) / sum(seen.values())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_its_formula(order: int) -> None:
    slow, fast = SlowNgram(TEXT, order), ByteNgram(TEXT, order)
    padded = b"\n" * (order - 1) + UNSEEN
    expected = [
        slow.probability(padded[i : i + order - 1], word, order) for i, word in enumerate(UNSEEN)
    ]
    assert np.allclose(fast.probabilities(UNSEEN), expected, rtol=1e-12)


@pytest.mark.parametrize("context", [b"the c", b"zzzzz", b""])
def test_it_is_a_distribution(context: bytes) -> None:
    model = ByteNgram(TEXT, 4)
    shares = [model.probabilities(context + bytes([word]))[-1] for word in range(256)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


def test_longer_contexts_help_on_the_same_text() -> None:
    bits = [ByteNgram(TEXT, order).bits_per_byte(UNSEEN) for order in (1, 3)]
    assert bits[1] < bits[0] < 8


@pytest.mark.parametrize("order", [0, 8])
def test_other_orders_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match="give 1 to 7"):
        ByteNgram(TEXT, order)
