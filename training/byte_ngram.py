"""An interpolated Kneser-Ney model over bytes: what counting alone makes of the same text.

p_n(w | h) = (max(c(hw) - D_n, 0) + D_n N(h)) / c(h) with p_{n-1}(w | h') in place of the 1 that
multiplies D_n N(h), where h' is h without its first byte, N(h) how many different bytes follow h
and D_n = n1 / (n1 + 2 n2) from how many n-grams were seen once and twice. The longest n-grams count
occurrences, the others how many different bytes they were seen after. Below the single byte stands
1/256. Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling"
(Harvard TR-10-98), sections 2.7 and 3, with one discount per order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Shares = NDArray[np.float64]

# Bytes that stand before the first of a text, so that it has a context as every other.
_START = b"\n"


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length: sorted keys with counts, and per context its total and N(h)."""

    grams: Keys
    counts: Keys
    contexts: Keys
    totals: Keys
    followers: Keys
    discount: float

    def shorten(self, keys: Keys, lower: Shares) -> Shares:
        """p_n of the n-grams `keys`, given p_{n-1} of their last bytes."""
        counts = _look_up(keys, self.grams, self.counts)
        totals = _look_up(keys >> 8, self.contexts, self.totals)
        followers = _look_up(keys >> 8, self.contexts, self.followers)
        kept = np.maximum(counts - self.discount, 0) + self.discount * followers * lower
        return np.where(totals > 0, kept / np.maximum(totals, 1), lower)


class ByteNgram:
    """Counts of all n-grams up to `order` bytes of a training text; at most 7, for 64-bit keys."""

    def __init__(self, text: bytes, order: int) -> None:
        if not 1 <= order <= 7:
            raise ValueError(f"order is {order}; give 1 to 7")
        self.order = order
        grams, counts = np.unique(_keys(text, order), return_counts=True)
        self._orders = [_counted(grams, counts)]
        for _ in range(order - 1):
            # Each different (n+1)-gram is one byte that its last n bytes were seen after.
            shift = 8 * (order - len(self._orders))
            grams, counts = np.unique(grams & ((1 << shift) - 1), return_counts=True)
            self._orders.insert(0, _counted(grams, counts))

    def probabilities(self, text: bytes) -> Shares:
        """Of each byte of `text` given those before it: (l,)."""
        shares = np.full(len(text), 1 / 256)
        for n, order in enumerate(self._orders, start=1):
            shares = order.shorten(_keys(text, n), shares)
        return shares

    def bits_per_byte(self, text: bytes) -> float:
        """Mean of -log2 of the probabilities."""
        return float(-np.log2(self.probabilities(text)).mean())


def _keys(text: bytes, n: int) -> Keys:
    """The n bytes that end at each byte of `text`, as one number: (l,)."""
    padded = np.frombuffer(_START * (n - 1) + text, np.uint8).astype(np.int64)
    keys = np.zeros(len(text), np.int64)
    for k in range(n):
        keys = (keys << 8) | padded[k : k + len(text)]
    return keys


def _counted(grams: Keys, counts: Keys) -> _Order:
    contexts, first = np.unique(grams >> 8, return_index=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return _Order(
        grams=grams,
        counts=counts,
        contexts=contexts,
        totals=np.add.reduceat(counts, first),
        followers=np.diff(np.append(first, len(grams))),
        discount=once / (once + 2 * twice) if once else 0.5,
    )


def _look_up(keys: Keys, known: Keys, values: Keys) -> Keys:
    """The value of each key, 0 for one that is not known (sorted)."""
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, values[at], 0)
