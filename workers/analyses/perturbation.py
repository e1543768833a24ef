"""What changes when neurons are changed: matched random sets, and effects.

Pure functions of numbers that were measured (`workers.experiments.perturbation` measures them).

Axes: c conditions, n texts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.perturbation import Effect, RandomEffect
from workers.analyses.intervals import mean_interval, rounded_interval
from workers.mixers.sites import Place
from workers.numbers import Floats, number

Chosen = Mapping[Place, NDArray[np.int64]]
"""The neurons of a set: their indices in each block that has any, ascending."""

# exp of more than this is beyond a float.
_LARGEST_EXPONENT = math.log(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Said:
    """What a model says of n texts under c conditions, each float64 (c, n).

    logit, probability: of the target; divergence: KL(before || it), nats; loss: mean cross-entropy
    of the text's next tokens, nats, NaN for a text of a single token.
    """

    logit: Floats
    probability: Floats
    divergence: Floats
    loss: Floats

    def of(self, conditions: slice) -> "Said":
        """Some of the conditions."""
        return Said(
            self.logit[conditions],
            self.probability[conditions],
            self.divergence[conditions],
            self.loss[conditions],
        )

    def mean_loss(self) -> float | None:
        """Over conditions and texts; None where every text has a single token."""
        known = self.loss[~np.isnan(self.loss)]
        return float(known.mean()) if len(known) else None


@dataclass(frozen=True)
class Changes:
    """After minus before of c conditions, mean over the texts, each (c,); loss None without any."""

    logit: Floats
    probability: Floats
    divergence: Floats
    loss: Floats | None

    @classmethod
    def between(cls, before: Said, after: Said) -> "Changes":
        """Of every condition of `after` (c, n) against `before` (1, n)."""
        known = ~np.isnan(before.loss[0])
        lost = (after.loss - before.loss)[:, known].mean(1) if known.any() else None
        return cls(
            logit=(after.logit - before.logit).mean(1),
            probability=(after.probability - before.probability).mean(1),
            divergence=after.divergence.mean(1),
            loss=lost,
        )

    def of(self, conditions: Sequence[int]) -> "Changes":
        """Some of the conditions."""
        which = np.asarray(conditions, np.int64)
        loss = None if self.loss is None else self.loss[which]
        return Changes(self.logit[which], self.probability[which], self.divergence[which], loss)


def effect(changes: Changes) -> Effect:
    """The effect of the first of the conditions."""
    loss = None if changes.loss is None else float(changes.loss[0])
    return Effect(
        logit=number(changes.logit[0]),
        probability=number(changes.probability[0]),
        divergence=number(changes.divergence[0]),
        loss=None if loss is None else number(loss),
        perplexity=None if loss is None else _ratio(loss),
    )


def random_effect(changes: Changes) -> RandomEffect:
    """The effect of random sets, one a condition: mean and 95 % interval of the mean.

    That of the perplexity is the loss's, exponentiated: a geometric mean, as perplexity itself is.
    """
    loss = None if changes.loss is None else mean_interval(changes.loss)
    ratios = None if loss is None else [_ratio(end) for end in loss]
    perplexity = None
    if ratios is not None and None not in ratios:
        perplexity = rounded_interval(*(end for end in ratios if end is not None))
    return RandomEffect(
        logit=rounded_interval(*mean_interval(changes.logit)),
        probability=rounded_interval(*mean_interval(changes.probability)),
        divergence=rounded_interval(*mean_interval(changes.divergence)),
        loss=None if loss is None else rounded_interval(*loss),
        perplexity=perplexity,
    )


def more_extreme(own: Changes, randoms: Changes) -> float:
    """Share of the random sets that lower the probability at least as much as the first of own."""
    return number(float((randoms.probability <= own.probability[0]).mean()))


def matched_sets(
    chosen: Chosen, sizes: Mapping[Place, int], count: int, draw: np.random.Generator
) -> list[Chosen]:
    """Random sets with as many neurons of each block as `chosen` has, none of them `chosen` itself.

    Each is drawn by itself, uniformly among all such sets, so two may be alike, and some neurons of
    `chosen` may be among them. sizes: how many neurons a block has. No sets at all where there is
    no other: `chosen` takes every neuron of its blocks.
    """
    if all(len(neurons) == sizes[place] for place, neurons in chosen.items()):
        return []
    found: list[Chosen] = []
    while len(found) < count:
        drawn = {
            place: np.sort(draw.choice(sizes[place], len(neurons), replace=False))
            for place, neurons in chosen.items()
        }
        if not all(np.array_equal(drawn[place], chosen[place]) for place in chosen):
            found.append(drawn)
    return found


def _ratio(loss: float) -> float | None:
    """exp(loss), None beyond a float."""
    return number(math.exp(loss)) if loss < _LARGEST_EXPONENT else None
