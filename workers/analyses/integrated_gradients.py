"""Integrated gradients of neurons, and the neurons that they name: the part without a model.

Sources: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (1703.01365), for the
path integral and its completeness; Dai et al., "Knowledge Neurons in Pretrained Transformers"
(2104.08696), for the scaling of a layer's neurons and for the choice among prompts.

Axes: p prompts of a fact, n neurons of all the blocks that are looked at.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from workers.numbers import Floats

Truths = NDArray[np.bool_]

SURVEY: Floats = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 12)])
"""Points of the path, both ends among them, at which the probability is read beforehand."""

BACKWARD = 2
"""A layer passed backwards takes as long as so many forwards."""

# Nodes of a panel; the share of the panels that is spread whatever the probability does; and how
# much closer together those are at the path's start than at its end.
_PANEL, _SPREAD, _TOWARDS_START = 3, 0.6, 54.0


def layers_passed(layers: int, back_to: int | None = None) -> int:
    """Layers that a row passes forwards, and back to one, each of which counts as `BACKWARD`."""
    return layers if back_to is None else layers + BACKWARD * (layers - back_to)


def layers_a_prompt(layers: int, sites: Sequence[int], steps: int) -> int:
    """Layers passed for a prompt: its answer, and of the block at each site a survey and a path."""
    surveyed = layers_passed(layers) * (1 + len(sites) * (len(SURVEY) - 1))
    return surveyed + steps * sum(layers_passed(layers, site) for site in sites)


def quadrature(probabilities: Floats, steps: int) -> tuple[Floats, Floats]:
    """(nodes, weights) of the integral over 0..1, (steps,) each, in ascending order.

    A probability rises within a small part of the path, mostly close to its start: behind a norm
    the neurons' direction counts, not their size. So the path is cut into panels, of three nodes of
    Gauss and Legendre's rule each, closer together where the `probabilities` at `SURVEY` change:
    three fifths of the panels are spread towards the start, two fifths as the probability changes.
    """
    changes = np.abs(np.diff(probabilities))
    spread = np.diff(np.log1p(_TOWARDS_START * SURVEY) / np.log1p(_TOWARDS_START))
    total = changes.sum()
    share = spread if total == 0 else _SPREAD * spread + (1 - _SPREAD) * changes / total
    reached = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
    panels = max(1, round(steps / _PANEL))
    borders = np.interp(np.arange(panels + 1) / panels, reached, SURVEY)
    nodes, weights = [], []
    for panel, (start, stop) in enumerate(pairwise(borders)):
        count = (panel + 1) * steps // panels - panel * steps // panels
        points, widths = np.polynomial.legendre.leggauss(count)
        nodes.append(start + (stop - start) * (points + 1) / 2)
        weights.append((stop - start) * widths / 2)
    return np.concatenate(nodes), np.concatenate(weights)


def completeness_gap(totals: Floats, probabilities: Floats, without: Floats) -> Floats:
    """(p,): |sum of attributions - (P(w) - P(0))| relative to the larger of the two probabilities.

    0 where both are.
    """
    larger = np.maximum(probabilities, without)
    gaps = np.abs(totals - (probabilities - without))
    return np.divide(gaps, larger, out=np.zeros_like(gaps), where=larger > 0)


def named(attributions: Floats, threshold: float) -> Truths:
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


def overlaps(names: Truths) -> Iterator[tuple[int, int, int, float | None]]:
    """(first, second, shared, Jaccard index) of every pair of sets of neurons, rows of (sets, n).

    The index is null where both are empty.
    """
    for i, j in combinations(range(len(names)), 2):
        shared = int((names[i] & names[j]).sum())
        either = int((names[i] | names[j]).sum())
        yield i, j, shared, shared / either if either else None
