"""What stands out among the neurons of a block: how few carry it, and what they answer to.

Axes: d neuron.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# An n-gram that ends fewer of a neuron's strongest tokens than this is no trigger.
_LEAST_SHARED = 2


@dataclass(frozen=True)
class Sparseness:
    """How few neurons carry a block's activation; see `sparseness`."""

    gini: float
    entropy: float
    entropy_normalised: float
    hoyer: float


def sparseness(magnitude: Floats) -> Sparseness:
    """Measures of magnitudes (d,), each from 0 on; of nothing but zeros all are 0.

    gini: sum_i (2 i - d - 1) m_i / (d sum m), of the magnitudes in ascending order, i from 1.
    entropy: -sum s log s of the shares s = m / sum m, in nats. hoyer: (sqrt(d) - |m|_1 / |m|_2) /
    (sqrt(d) - 1). Sources: Hurley and Rickard, "Comparing Measures of Sparsity" (0811.4706); Hoyer,
    "Non-negative Matrix Factorization with Sparseness Constraints" (2004).
    """
    total, count = float(magnitude.sum()), len(magnitude)
    if not total:
        return Sparseness(0.0, 0.0, 0.0, 0.0)
    shares = magnitude / total
    order = np.arange(1, count + 1)
    gini = float(((2 * order - count - 1) * np.sort(shares)).sum() / count)
    some = shares[shares > 0]
    entropy = max(0.0, float(-(some * np.log(some)).sum()))
    return Sparseness(
        gini=max(0.0, gini),
        entropy=entropy,
        entropy_normalised=entropy / float(np.log(count)) if count > 1 else 0.0,
        hoyer=hoyer(magnitude),
    )


def hoyer(values: Sequence[float] | Floats) -> float:
    """How sparse some numbers are: (sqrt(d) - |v|_1 / |v|_2) / (sqrt(d) - 1), 0 of nothing.

    Source: Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints" (2004).
    """
    size = np.abs(np.asarray(values, dtype=np.float64))
    largest = size.max(initial=0.0)
    if len(size) < 2 or not largest:
        return 0.0
    size = size / largest
    root = np.sqrt(len(size))
    return max(0.0, float((root - size.sum() / np.sqrt((size**2).sum())) / (root - 1)))


def ranked(values: Floats, most: int) -> list[int]:
    """Indices of the largest magnitudes, largest first, without zeros and what is no number."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    order = np.argsort(-size, kind="stable")[:most]
    return [int(index) for index in order if size[index] > 0]


@dataclass(frozen=True)
class SharedNgram:
    """An n-gram that ends several of a neuron's strongest tokens."""

    ids: tuple[int, ...]
    share: float
    lift: float


class Ngrams:
    """The n-grams of some texts, looking backwards: ids[t - n + 1] .. ids[t] belongs to token t."""

    def __init__(self, texts: Sequence[Sequence[int]], longest: int) -> None:
        self._texts = texts
        self.longest = longest

    def shared(self, places: Sequence[tuple[int, int]], n: int) -> SharedNgram | None:
        """The n-gram that ends most of the tokens at `places` (text, position), at least two.

        Of equals, that of the earliest place. share: of all places; lift: that share over the
        n-gram's share of all n-grams of the texts. None where no two have one in common.
        """
        ending = Counter(
            found for text, at in places if (found := self._ending(text, at, n)) is not None
        )
        if not ending:
            return None
        ids, count = ending.most_common(1)[0]
        if count < _LEAST_SHARED:
            return None
        counts = self._counts[n - 1]
        share = count / len(places)
        return SharedNgram(ids, share, share * counts.total() / counts[ids])

    def _ending(self, text: int, at: int, n: int) -> tuple[int, ...] | None:
        ids = self._texts[text]
        return tuple(ids[at - n + 1 : at + 1]) if at + 1 >= n else None

    @cached_property
    def _counts(self) -> list[Counter[tuple[int, ...]]]:
        """How often each n-gram stands in the texts, for n from 1 to the longest."""
        return [
            Counter(
                tuple(ids[end - n : end]) for ids in self._texts for end in range(n, len(ids) + 1)
            )
            for n in range(1, self.longest + 1)
        ]
