"""Integrated gradients of neurons, and the neurons that they name: the part without a model.

Sources: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (1703.01365), for the
path integral and its completeness; Dai et al., "Knowledge Neurons in Pretrained Transformers"
(2104.08696), for the scaling of a layer's neurons and for the choice among prompts.

Axes: p prompts of a fact, n neurons of all the blocks that are looked at.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


def quadrature(steps: int) -> tuple[Array, Array]:
    """(nodes, weights) of the integral over 0..1 by Gauss and Legendre's rule, (steps,) each.

    Exact for polynomials of degree 2 steps - 1. The nodes lie within the interval, so that neither
    end of the path, where neurons are at 0 or as they are, is among them.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def completeness_gap(total: float, probability: float, without: float) -> float:
    """|sum of attributions - (P(w) - P(0))| relative to the larger of the two probabilities.

    0 where both are.
    """
    larger = max(probability, without)
    return abs(total - (probability - without)) / larger if larger > 0 else 0.0


def named(attributions: Array, threshold: float) -> Truths:
    """(p, n): the neurons that each prompt names, of their attributions (p, n).

    Those with at least `threshold` of the prompt's largest attribution; none that is not positive.
    """
    if not attributions.shape[1]:
        return np.zeros(attributions.shape, bool)
    largest = attributions.max(axis=1, keepdims=True)
    names: Truths = (attributions > 0) & (attributions >= threshold * largest)
    return names


def agreed(names: Truths, share: float) -> Truths:
    """(n,): the neurons that at least `share` of the prompts name, and at least one does."""
    count = names.sum(axis=0)
    # A quotient of whole numbers is rounded as a share given in decimals is.
    found: Truths = (count > 0) & (count / len(names) >= share)
    return found


def overlaps(sets: Sequence[frozenset[Hashable]]) -> list[tuple[int, int, int, float | None]]:
    """(first, second, shared, Jaccard index) of every pair of sets; null where both are empty."""
    found = []
    for (i, one), (j, other) in combinations(enumerate(sets), 2):
        shared, either = len(one & other), len(one | other)
        found.append((i, j, shared, shared / either if either else None))
    return found
