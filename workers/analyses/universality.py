"""Which neurons of one model another one has as well: neurons that are active at the same tokens.

Source: Gurnee et al., "Universal Neurons in GPT2 Language Models" (2401.12181), section 3.

Axes: n token, d neuron of a block, k neuron of it that varies.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.names import Block
from schemas.neurons import UniversalBlock, Universality, UniversalPair
from schemas.sections import FEWEST_SHARED_TOKENS, NeuronRef
from workers.analyses.checks import require_finite
from workers.analyses.rounding import number

_Value = TypeVar("_Value")

# Correlations held at once.
_CORRELATIONS = 1 << 22
# Random combinations of a block's neurons that are drawn at once.
_DRAWN = 1024
# What varies by less than this share of its own size varies by the rounding of float32.
_RESOLUTION = torch.finfo(torch.float32).eps
_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class BlockSample:
    """The neurons of one block at the compared tokens, standardised; only those that vary.

    values (k, n): rows of mean 0 and length 1, whose products are correlations. spread (k,): the
    neurons' standard deviations, in units of the largest. varying (k,): their indices among
    the block's `count` neurons.
    """

    layer: int
    block: Block
    count: int
    varying: NDArray[np.int64]
    values: Tensor
    spread: Tensor


@dataclass(frozen=True)
class ModelSample:
    """A model's neurons at the compared tokens, block after block."""

    model: str
    tokens: int
    blocks: list[BlockSample]

    @classmethod
    def of(
        cls, model: str, tokens: int, activations: Iterable[tuple[int, Block, Tensor]]
    ) -> "ModelSample":
        """The sample of (layer, block, activations (n, d)), which are looked at one after another.

        Takes as much memory as the activations do; those that come from a generator that lets go
        of them are never all held twice. Raises ValueError: not `tokens` of them. Raises
        ProblemError (not-finite): some hold infinity or NaN.
        """
        return cls(model, tokens, [_sample(model, tokens, *found) for found in activations])

    @property
    def varying(self) -> int:
        """How many of its neurons vary."""
        return sum(len(block.varying) for block in self.blocks)

    def placed(self) -> Iterator[tuple[int, BlockSample]]:
        """Every block that has neurons that vary, after how many such neurons it comes."""
        start = 0
        for block in self.blocks:
            if len(block.varying):
                yield start, block
            start += len(block.varying)


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

    Cost, of models with K neurons each over n tokens: 3 products of 2 n K^2 flops a pair, in
    float32 on `device`. Memory beside the samples: O(K), and three times the largest block. Raises
    ValueError: fewer than two models, samples of different or of too few tokens, or a model
    without neurons.
    """
    _require_comparable(samples)
    search = _Search.over(samples)
    for their, other in enumerate(samples):
        for start, block in other.placed():
            values = block.values.to(device)
            turned = _turned(values, block, mixing(seed, other.model, block))
            for my, one in enumerate(samples):
                if my != their:
                    search.compare_block((my, their), one, start, values, turned)
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
class _Search:
    """The matches of every ordered pair of models, by their indices."""

    largest: dict[tuple[int, int], _Matches]
    baseline: dict[tuple[int, int], _Matches]

    @classmethod
    def over(cls, samples: Sequence[ModelSample]) -> "_Search":
        pairs = list(permutations(range(len(samples)), 2))
        largest, baseline = (
            {pair: _Matches(samples[pair[0]].varying) for pair in pairs} for _ in range(2)
        )
        return cls(largest, baseline)

    def compare_block(
        self, pair: tuple[int, int], one: ModelSample, their: int, values: Tensor, turned: Tensor
    ) -> None:
        """All of one model's neurons with a block (k, n) of another's, and with it turned.

        their: how many varying neurons of the other model come before the block. One product serves
        both directions of a pair, so the values are compared in one of its two orders only.
        """
        height = max(1, _CORRELATIONS // len(values))
        for start, block in one.placed():
            for rows, own in enumerate(torch.split(block.values, height)):
                mine, own = start + rows * height, own.to(values.device)
                self.baseline[pair].take(mine, own @ turned.T, their)
                if pair[0] < pair[1]:
                    correlations = own @ values.T
                    self.largest[pair].take(mine, correlations, their)
                    self.largest[pair[::-1]].take(their, correlations.T, mine)


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


def _sample(model: str, tokens: int, layer: int, block: Block, activations: Tensor) -> BlockSample:
    """The standardised neurons of (n, d) activations, from float64 means and deviations."""
    if len(activations) != tokens:
        raise ValueError(f"layer {layer}: {len(activations)} tokens, not {tokens}")
    width = activations.shape[1]
    values = activations.T.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    size = values.abs().amax(1).to(torch.float64)
    # Twice: a mean is rounded to float32, and what that leaves is as large as some neurons vary.
    for _ in range(2):
        values -= values.mean(1, keepdim=True, dtype=torch.float64).to(torch.float32)
    std = torch.linalg.vector_norm(values, dim=1, dtype=torch.float64) / tokens**0.5
    finite = float(torch.isfinite(std).all())
    require_finite(f"sample of `{model}`'s {block} neurons", layer, finite)
    values /= std[:, None].to(torch.float32)
    values *= tokens**-0.5
    varying = std > torch.clamp(_RESOLUTION * size, min=_SMALLEST)
    if not varying.all():
        values = values[varying]
    kept = std[varying]
    return BlockSample(
        layer=layer,
        block=block,
        count=width,
        varying=varying.nonzero()[:, 0].cpu().numpy(),
        values=values,
        spread=(kept / kept.max() if len(kept) else kept).to(torch.float32),
    )


def _turned(values: Tensor, block: BlockSample, mixed: Iterable[NDArray[np.float32]]) -> Tensor:
    """Random combinations (k, n) of a block's own activations, standardised."""
    turned = torch.empty_like(values)
    spread, start = block.spread.to(values.device), 0
    for weights in mixed:
        rows = turned[start : start + len(weights)]
        torch.matmul(torch.from_numpy(weights).to(values.device) * spread, values, out=rows)
        rows /= rows.norm(dim=1, keepdim=True)
        start += len(weights)
    return turned


def _pairs(
    samples: Sequence[ModelSample], search: _Search, threshold: float
) -> Iterator[UniversalPair]:
    """Both directions of every pair."""
    refs = [_refs(sample) for sample in samples]
    for my, their in permutations(range(len(samples)), 2):
        one, other = samples[my], samples[their]
        largest, baseline = search.largest[my, their], search.baseline[my, their]
        blocks, start = [], 0
        for block in one.blocks:
            # Without candidates nothing has a correlation.
            at = slice(start, start + len(block.varying) if refs[their] else start)
            matches = [refs[their][match] for match in largest.match[at].tolist()]
            correlations = largest.correlation[at], baseline.correlation[at]
            blocks.append(_block(block, *correlations, matches, threshold))
            start = at.stop
        yield _pair((one.model, other.model), one.tokens, blocks, threshold)


def _refs(sample: ModelSample) -> list[NeuronRef]:
    """The neurons that vary."""
    return [
        NeuronRef(layer=block.layer, block=block.block, neuron=neuron)
        for block in sample.blocks
        for neuron in block.varying.tolist()
    ]


def _block(
    block: BlockSample,
    largest: Tensor,
    baseline: Tensor,
    matches: list[NeuronRef],
    threshold: float,
) -> UniversalBlock:
    found = _of_all(block, _rounded(largest)), _of_all(block, _rounded(baseline))
    excess = _excess(*found)
    return UniversalBlock(
        layer=block.layer,
        block=block.block,
        num_neurons=block.count,
        max_correlation=found[0],
        baseline=found[1],
        best_match=_of_all(block, matches),
        mean_excess=_mean(excess),
        fraction_universal=_share_above(excess, threshold, block.count),
    )


def _pair(
    models: tuple[str, str], tokens: int, blocks: list[UniversalBlock], threshold: float
) -> UniversalPair:
    excess = [e for block in blocks for e in _excess(block.max_correlation, block.baseline)]
    neurons = sum(block.num_neurons for block in blocks)
    return UniversalPair(
        models=models,
        tokens=tokens,
        fraction_universal=_share_above(excess, threshold, neurons),
        mean_excess=_mean(excess),
        blocks=blocks,
    )


def _excess(largest: Sequence[float | None], baseline: Sequence[float | None]) -> list[float]:
    """Of the reported numbers, so that they tell which neurons are universal."""
    pairs = zip(largest, baseline, strict=True)
    return [one - other for one, other in pairs if one is not None and other is not None]


def _of_all(block: BlockSample, values: Sequence[_Value]) -> list[_Value | None]:
    """The values of the neurons that vary among those of all, or of none if there are none."""
    found: list[_Value | None] = [None] * block.count
    if values:
        for neuron, value in zip(block.varying.tolist(), values, strict=True):
            found[neuron] = value
    return found


def _rounded(correlations: Tensor) -> list[float]:
    return [number(value) for value in correlations.clamp(-1, 1).tolist()]


def _mean(values: Sequence[float]) -> float:
    return number(fmean(values)) if values else 0.0


def _share_above(values: Sequence[float], threshold: float, count: int) -> float:
    return number(sum(value > threshold for value in values) / max(count, 1))
