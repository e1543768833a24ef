"""Which n-grams a neuron answers to: those that its strongest tokens end."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# A neuron's strongest tokens, as triggers go: of its largest activation's sign, and of at least
# this share of its magnitude. What merely comes next in a list of ten says nothing.
_STRONG = 0.5
# An n-gram that ends fewer of them than this is no trigger.
_LEAST_SHARED = 2


@dataclass(frozen=True)
class SharedNgram:
    """An n-gram that ends several of a neuron's strongest tokens, and one of these places."""

    ids: tuple[int, ...]
    share: float
    lift: float
    place: tuple[int, int]


class Ngrams:
    """The n-grams of some texts, looking backwards: ids[t - n + 1] .. ids[t] belongs to token t."""

    def __init__(self, texts: Sequence[Sequence[int]], longest: int) -> None:
        self._texts, self._longest = texts, longest
        self._ids = np.concatenate([np.asarray(ids, np.int64) for ids in texts])
        self._places = np.concatenate([np.arange(len(ids)) for ids in texts])
        self._counts: dict[tuple[int, ...], int] = {}

    def triggers(self, strongest: Sequence[tuple[float, int, int]]) -> Iterator[SharedNgram]:
        """For each n the n-gram that most of a neuron's strongest tokens end, if it is a trigger.

        strongest: (activation, text, position), largest magnitude first, of which those count that
        have the first one's sign and at least half its magnitude. share: of these tokens; lift:
        that share over the n-gram's share of all n-grams of the texts. A trigger ends at least two
        of the tokens and has a lift above 1. Of equals, the one of the earliest place.
        """
        if not strongest:
            return
        largest = strongest[0][0]
        places = [(text, at) for value, text, at in strongest if value / largest >= _STRONG]
        for n in range(1, self._longest + 1):
            found = self._commonest(places, n)
            if found is not None and found.lift > 1:
                yield found

    def _commonest(self, places: Sequence[tuple[int, int]], n: int) -> SharedNgram | None:
        ending = {
            (text, at): tuple(self._texts[text][at - n + 1 : at + 1])
            for text, at in places
            if at + 1 >= n
        }
        if not ending:
            return None
        ids, count = Counter(ending.values()).most_common(1)[0]
        if count < _LEAST_SHARED:
            return None
        share = count / len(places)
        total = int((self._places >= n - 1).sum())
        place = next(place for place, found in ending.items() if found == ids)
        return SharedNgram(ids, share, share * total / self._count(ids), place)

    def _count(self, ids: tuple[int, ...]) -> int:
        """How often an n-gram stands in the texts."""
        if ids not in self._counts:
            n = len(ids)
            same = self._places[n - 1 :] >= n - 1
            for index, wanted in enumerate(ids):
                same &= self._ids[index : len(self._ids) - n + 1 + index] == wanted
            self._counts[ids] = int(same.sum())
        return self._counts[ids]
