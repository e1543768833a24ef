"""A model's neurons at some tokens, ready to be correlated.

Axes: n token, d neuron of a block, k neuron of it that varies.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.names import Block
from workers.analyses.checks import require_finite

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
