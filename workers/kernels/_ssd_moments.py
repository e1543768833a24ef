"""The spread of SSD's hidden attention over all pairs of tokens. Axes as in `ssd`."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from workers.kernels._ssd_blocks import (
    Block,
    System,
    blocks,
    chunks,
    decays_within,
    factors,
    per_head,
    scored,
    to_heads,
    weighted,
)


@dataclass(frozen=True)
class Moments:
    """Sums over the pairs s <= t of (p[t] q[s] alpha)^2, as the pieces of a text are read.

    Inside a piece by blocks, whose products are shared by all channels of a group; between pieces
    by a state over pairs of states, n^2. totals (width,) float64, `width` being the channels d, or
    the heads h where p and q are ones; products (g, n^2, width/g).
    """

    totals: Tensor
    products: Tensor

    @classmethod
    def start(cls, system: System, width: int) -> Self:
        """Nothing read yet."""
        n = system.B.shape[2]
        shape = (system.groups, n * n, width // system.groups)
        return cls(system.A.new_zeros(width, dtype=torch.float64), system.A.new_zeros(shape))

    def read(
        self, system: System, p: Tensor | None, q: Tensor | None, *, first: bool, last: bool
    ) -> None:
        """Go on through the next piece, which may be the text's first, last, or both."""
        squared = System(system.delta.square(), 2 * system.A, system.B, system.C)
        # The decay goes with delta, not with its square.
        vars(squared)["decay"] = 2 * system.decay
        p2, q2 = (None if w is None else w.square() for w in (p, q))
        for block in blocks(system.length):
            scores = scored(system, block).square_()
            self.totals.add_(_summed(squared, block, scores, p2, q2))
        if not first:
            self.totals.add_(self._of_state(squared, p2))
        if not last:
            self._leave(squared, q2)

    def deviation(self, first: Tensor, length: int) -> Tensor:
        """Population standard deviation (width,) after `length` tokens.

        first (width,) is the sum of p q alpha itself over all pairs.
        """
        pairs = length * (length + 1) / 2
        mean = first.double() / pairs
        if length == 1:
            return torch.zeros_like(mean).float()
        return (self.totals / pairs - mean**2).clamp_min(0.0).sqrt().float()

    def _of_state(self, squared: System, p2: Tensor | None) -> Tensor:
        total = torch.zeros_like(self.totals)
        for tokens in chunks(squared.length):
            start = torch.zeros_like(squared.decay[0])
            left = weighted(
                squared,
                squared.until(start, tokens)[None],
                None if p2 is None else p2[tokens][None],
            )[:, 0]
            pairs = _pairs(squared.C[tokens])
            total += ((pairs @ self.products) * left).sum(1).flatten()
        return total

    def _leave(self, squared: System, q2: Tensor | None) -> None:
        last = squared.decay[-1]
        channels = len(self.totals) // squared.heads
        kept = last.exp().float().repeat_interleave(channels)
        self.products.mul_(kept.view(squared.groups, 1, -1))
        for tokens in chunks(squared.length):
            right = weighted(
                squared,
                squared.since(last, tokens)[None],
                None if q2 is None else q2[tokens][None],
            )[:, 0]
            self.products.baddbmm_(_pairs(squared.B[tokens]).mT, right)


def _pairs(vectors: Tensor) -> Tensor:
    """(g, l, n^2): every product of two states, of (l, g, n)."""
    v = vectors.transpose(0, 1)
    return (v[..., :, None] * v[..., None, :]).flatten(2)


def _summed(
    squared: System, block: Block, scores: Tensor, p2: Tensor | None, q2: Tensor | None
) -> Tensor:
    """(width,): sum over the block's pairs of p2 q2 scores delta times the decay."""
    if block.diagonal:
        of_heads = to_heads(squared, scores.permute(1, 2, 3, 0))
        weights = decays_within(squared, block).mul_(of_heads.permute(0, 3, 1, 2))
        if p2 is None or q2 is None:
            return weights.sum((0, 2, 3))
        left, right = (per_head(squared, block.keys(w)) for w in (p2, q2))
        return ((weights @ right) * left).sum((0, 2)).flatten()
    after, before = factors(squared, block)
    left = weighted(squared, after, None if p2 is None else block.queries(p2))
    right = weighted(squared, before, None if q2 is None else block.keys(q2))
    return ((scores @ right) * left).sum((1, 2)).flatten()
