"""Which neurons of one model another one has as well: neurons that are active at the same tokens.

Source: Gurnee et al., "Universal Neurons in GPT2 Language Models" (2401.12181).

Axes: n token, d neuron of a block, k neuron of it that varies.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, permutations
from statistics import fmean
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.names import Block
from schemas.sections import FEWEST_SHARED_TOKENS, NeuronRef
from schemas.universality import UniversalBlock, Universality, UniversalPair
from workers.analyses.neuron_samples import BlockSample, ModelSample
from workers.kernels import pulse
from workers.numbers import listed, number

_Value = TypeVar("_Value")

# Correlations held at once.
_CORRELATIONS = 1 << 22
# Random combinations of a block's neurons that are drawn at once.
_DRAWN = 1024


def universality(
    samples: Sequence[ModelSample],
    threshold: float,
    seed: int,
    device: torch.device | str = "cpu",
) -> Universality:
    """Every model's neurons against every other's.

    max_correlation: the largest Pearson correlation, signed, with a neuron of the other model, of
    any layer and block. baseline: the same with the other model's neurons after each block of them
    is multiplied by a Gaussian matrix drawn from `seed`: as many candidates, of the same
    activations, in a basis that means nothing. A neuron is universal where the first exceeds the
    second by more than `threshold`.

    Self-check: fraction_by_chance is the share that would be, had the other model read its tokens
    in another order. Neurons that are rarely active meet by chance, as their rotations do not.

    Cost, of models with K neurons each over n tokens: 4 products of 2 n K^2 flops a pair, in
    float32 on `device`. Memory beside the samples: O(K), and four times the largest block. Raises
    ValueError: fewer than two models, samples of different or of too few tokens, or a model
    without neurons.
    """
    _require_comparable(samples)
    search = _Search.over(samples)
    order = shuffling(seed, samples[0].tokens)
    blocks = [(their, *placed) for their, other in enumerate(samples) for placed in other.placed()]
    # About what a block takes: its own rotation, and products with all neurons.
    every = sum(sample.varying for sample in samples)
    taken = list(accumulate((len(b.varying) * (len(b.varying) + every) for *_, b in blocks)))
    for (their, start, block), upto in zip(blocks, [0, *taken], strict=False):
        pulse.beat(upto / taken[-1])
        values = block.values.to(device)
        turned = _turned(values, block, mixing(seed, samples[their].model, block))
        candidates = _Candidates(start, values, turned, values[:, order.to(values.device)])
        for my, one in enumerate(samples):
            if my != their:
                search.compare((my, their), one, candidates)
    return Universality(threshold=threshold, pairs=list(_pairs(samples, search, threshold)))


def mixing(seed: int, model: str, block: BlockSample) -> Iterator[NDArray[np.float32]]:
    """The random matrix (k, k) that a block's neurons are rotated by, some rows at a time.

    Independent standard normals, as in the authors' code: rows are all but orthogonal where k is
    large, and their lengths do not matter to a correlation. The same for a model whatever others
    the job names.
    """
    of_block = (block.layer, list(Block).index(block.block))
    source = np.random.default_rng([seed, *of_block, *model.encode()])
    count = len(block.varying)
    for start in range(0, count, _DRAWN):
        rows = min(_DRAWN, count - start)
        yield source.standard_normal((rows, count), dtype=np.float32)


def shuffling(seed: int, tokens: int) -> Tensor:
    """An order (n,) of the tokens in which random pairs have changed places.

    It is its own inverse, so that it does not matter of which of two models it shuffles the tokens.
    """
    drawn = torch.from_numpy(np.random.default_rng([seed, tokens]).permutation(tokens))
    first, second = drawn[: 2 * (tokens // 2)].reshape(2, -1)
    order = torch.arange(tokens)
    order[first], order[second] = second, first
    return order


class _Matches:
    """Of each of a model's varying neurons the largest correlation so far, and with whom."""

    def __init__(self, count: int) -> None:
        self.correlation = torch.full((count,), -torch.inf)
        self.match = torch.zeros(count, dtype=torch.int64)

    def take(self, start: int, correlations: Tensor, first: int) -> None:
        """Those of the neurons from `start` on with the candidates from `first` on, (.., ..).

        The first of equals stays.
        """
        largest, match = (found.cpu() for found in correlations.max(1))
        at = slice(start, start + len(largest))
        better = largest > self.correlation[at]
        self.correlation[at] = torch.where(better, largest, self.correlation[at])
        self.match[at] = torch.where(better, match + first, self.match[at])


@dataclass(frozen=True)
class _Candidates:
    """A block's neurons (k, n) as they are, turned, and at shuffled tokens.

    start: how many varying neurons of their model come before the block.
    """

    start: int
    values: Tensor
    turned: Tensor
    shuffled: Tensor


@dataclass(frozen=True)
class _Search:
    """The matches of every ordered pair of models, by their indices."""

    largest: dict[tuple[int, int], _Matches]
    baseline: dict[tuple[int, int], _Matches]
    chance: dict[tuple[int, int], _Matches]

    @classmethod
    def over(cls, samples: Sequence[ModelSample]) -> "_Search":
        pairs = list(permutations(range(len(samples)), 2))
        return cls(
            *({pair: _Matches(samples[pair[0]].varying) for pair in pairs} for _ in range(3))
        )

    def compare(self, pair: tuple[int, int], one: ModelSample, others: _Candidates) -> None:
        """All of one model's neurons with a block of another's.

        One product serves both directions of a pair but where neurons are turned, so it is made in
        one of the pair's two orders only.
        """
        height = max(1, _CORRELATIONS // len(others.values))
        for start, block in one.placed():
            for rows, own in enumerate(torch.split(block.values, height)):
                pulse.beat()
                mine, own = start + rows * height, own.to(others.values.device)
                self.baseline[pair].take(mine, own @ others.turned.T, others.start)
                if pair[0] < pair[1]:
                    for matches, values in (
                        (self.largest, others.values),
                        (self.chance, others.shuffled),
                    ):
                        correlations = own @ values.T
                        matches[pair].take(mine, correlations, others.start)
                        matches[pair[::-1]].take(others.start, correlations.T, mine)


def _require_comparable(samples: Sequence[ModelSample]) -> None:
    if len(samples) < 2:
        raise ValueError("there is one model: neurons are compared between two or more")
    tokens = {sample.tokens for sample in samples}
    if len(tokens) > 1:
        raise ValueError(f"the models' samples have different numbers of tokens: {sorted(tokens)}")
    if min(tokens) < FEWEST_SHARED_TOKENS:
        raise ValueError(
            f"the models share {min(tokens)} tokens: neurons are compared over at least "
            f"{FEWEST_SHARED_TOKENS}"
        )
    for sample in samples:
        if not any(block.count for block in sample.blocks):
            raise ValueError(f"`{sample.model}` has no neurons that can be read at these layers")


def _turned(values: Tensor, block: BlockSample, mixed: Iterable[NDArray[np.float32]]) -> Tensor:
    """Random combinations (k, n) of a block's own activations, standardised."""
    turned = torch.empty_like(values)
    spread, start = block.spread.to(values.device), 0
    for weights in mixed:
        pulse.beat()
        rows = turned[start : start + len(weights)]
        torch.matmul(torch.from_numpy(weights).to(values.device) * spread, values, out=rows)
        rows /= rows.norm(dim=1, keepdim=True)
        start += len(weights)
    return turned


@dataclass(frozen=True)
class _Found:
    """Of a block's varying neurons (k,) the largest correlations, as reported, and with whom."""

    block: BlockSample
    largest: list[float]
    baseline: list[float]
    chance: list[float]
    matches: list[NeuronRef]

    @property
    def excess(self) -> list[float]:
        """By how much a neuron's largest correlation exceeds its baseline."""
        return [one - other for one, other in zip(self.largest, self.baseline, strict=True)]

    @property
    def excess_by_chance(self) -> list[float]:
        """The same at shuffled tokens."""
        return [one - other for one, other in zip(self.chance, self.baseline, strict=True)]


def _pairs(
    samples: Sequence[ModelSample], search: _Search, threshold: float
) -> Iterator[UniversalPair]:
    """Both directions of every pair."""
    refs = [_refs(sample) for sample in samples]
    for my, their in permutations(range(len(samples)), 2):
        one, other = samples[my], samples[their]
        found = list(_found(one, search, (my, their), refs[their]))
        neurons = sum(of.block.count for of in found)
        excess = [value for of in found for value in of.excess]
        by_chance = [value for of in found for value in of.excess_by_chance]
        yield UniversalPair(
            models=(one.model, other.model),
            tokens=one.tokens,
            fraction_universal=_share_above(excess, threshold, neurons),
            fraction_by_chance=_share_above(by_chance, threshold, neurons),
            mean_excess=_mean(excess),
            blocks=[_block(of, threshold) for of in found],
        )


def _refs(sample: ModelSample) -> list[NeuronRef]:
    """The neurons that vary."""
    return [
        NeuronRef(layer=block.layer, block=block.block, neuron=neuron)
        for block in sample.blocks
        for neuron in block.varying.tolist()
    ]


def _found(
    one: ModelSample, search: _Search, pair: tuple[int, int], candidates: list[NeuronRef]
) -> Iterator[_Found]:
    """Block after block; without candidates nothing has a correlation."""
    start = 0
    for block in one.blocks:
        at = slice(start, start + len(block.varying) if candidates else start)
        start = at.stop
        yield _Found(
            block,
            _rounded(search.largest[pair].correlation[at]),
            _rounded(search.baseline[pair].correlation[at]),
            _rounded(search.chance[pair].correlation[at]),
            [candidates[match] for match in search.largest[pair].match[at].tolist()],
        )


def _block(found: _Found, threshold: float) -> UniversalBlock:
    block, excess = found.block, found.excess
    return UniversalBlock(
        layer=block.layer,
        block=block.block,
        num_neurons=block.count,
        max_correlation=_of_all(block, found.largest),
        baseline=_of_all(block, found.baseline),
        best_match=_of_all(block, found.matches),
        mean_excess=_mean(excess),
        fraction_universal=_share_above(excess, threshold, block.count),
        fraction_by_chance=_share_above(found.excess_by_chance, threshold, block.count),
    )


def _of_all(block: BlockSample, values: Sequence[_Value]) -> list[_Value | None]:
    """The values of the neurons that vary among those of all, or of none if there are none."""
    found: list[_Value | None] = [None] * block.count
    if values:
        for neuron, value in zip(block.varying.tolist(), values, strict=True):
            found[neuron] = value
    return found


def _rounded(correlations: Tensor) -> list[float]:
    return listed(correlations.clamp(-1, 1).to(torch.float64).numpy())


def _mean(values: Sequence[float]) -> float:
    return number(fmean(values)) if values else 0.0


def _share_above(values: Sequence[float], threshold: float, count: int) -> float:
    return number(sum(value > threshold for value in values) / max(count, 1))
