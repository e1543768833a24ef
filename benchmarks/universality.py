"""The neurons of two models against each other, beside a matrix product and numpy's way."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.agreement import require_close
from benchmarks.row import Row
from benchmarks.timing import Contest, effort
from schemas.names import Block
from workers.analyses.neuron_samples import ModelSample
from workers.analyses.universality import universality

LAYERS, NEURONS, TOKENS = 4, 1536, 4096
# Correlations of two models, the same at shuffled tokens, and of either with the other's turned.
PRODUCTS = 4


def rows(quick: bool) -> Iterator[Row]:
    tokens = TOKENS // 4 if quick else TOKENS
    blocks = [made(seed, tokens) for seed in (0, 1)]
    samples = [sampled(name, own) for name, own in zip("ab", blocks, strict=True)]
    one, other = blocks[0][0].numpy(), blocks[1][0].numpy()
    require_close("universality of one block", largest(samples), numpys(one, other)())

    def ours() -> object:
        return universality([sampled("a", blocks[0]), sampled("b", blocks[1])], 0.5, seed=0)

    what = f"universality of two models of {LAYERS} x {NEURONS:,} neurons, {tokens:,} tokens"
    yield Contest(
        what=what,
        against="one sgemm of the same flops",
        scale=PRODUCTS,
        note="a quarter of the products is run; what turns the neurons counts as none of its flops",
        less_is_better=True,
    ).between(ours, product(blocks), effort(quick))
    yield Contest(
        what=what,
        against="numpy.corrcoef, block after block",
        scale=PRODUCTS * LAYERS**2,
        note=f"one of its {PRODUCTS * LAYERS**2} calls is run; it need not turn any neurons",
    ).between(ours, numpys(one, other), effort(quick))


def made(seed: int, tokens: int) -> list[Tensor]:
    """A model's activations (n, d), block after block."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, NEURONS, generator=draw) for _ in range(LAYERS)]


def sampled(model: str, blocks: list[Tensor]) -> ModelSample:
    found = ((layer, Block.MIXER, block) for layer, block in enumerate(blocks))
    return ModelSample.of(model, len(blocks[0]), found)


def largest(samples: list[ModelSample]) -> Tensor:
    """The largest correlation of each neuron of the first block with one of the other's first."""
    alone = [ModelSample(of.model, of.tokens, of.blocks[:1]) for of in samples]
    [block] = universality(alone, 0.5, seed=0).pairs[0].blocks
    return torch.tensor(block.max_correlation)


def numpys(one: np.ndarray, other: np.ndarray) -> Callable[[], Tensor]:
    """The same from numpy's correlations of both blocks' neurons, all with all."""

    def call() -> Tensor:
        correlations = np.corrcoef(one, other, rowvar=False)[:NEURONS, NEURONS:]
        return torch.from_numpy(correlations.max(1)).to(torch.float32)

    return call


def product(blocks: list[list[Tensor]]) -> Callable[[], Tensor]:
    """Every neuron of one model with every neuron of the other."""
    one, other = (torch.cat(of_model, 1).T.contiguous() for of_model in blocks)
    return lambda: one @ other.T
