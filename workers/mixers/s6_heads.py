"""What the kernels of hidden attention find for the heads of an S6 mixer, as one mixer's.

A head is an S6 system of its own over its own block of channels, all blocks equally wide. Means
over channels are means over heads, and what has channels is joined in their order. One head is
passed on as it is, without a copy.

Axes as in `s6`, h heads.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from workers.kernels.hidden_attention import (
    Moments,
    apply_attention,
    attention_matrices,
    carried_state,
    row_before,
    weighted_rows,
)
from workers.mixers.s6_pieces import Piece, S6Weights, parted, side_by_side

Pair = tuple[Tensor | None, Tensor | None]
"""Weights p and q, each (l, d) or None for ones."""


class Head(NamedTuple):
    """One head's part of a piece: delta (l, d / h), A (d / h, n), B and C (l, n)."""

    channels: slice
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    @property
    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(delta, A, B, C), as the kernels take them."""
        return self.delta, self.A, self.B, self.C

    def own(self, values: Tensor) -> Tensor:
        """This head's channels of (.., d), a view; of a single head `values` itself."""
        return values if values.shape[-1] == len(self.A) else values[..., self.channels]

    def pair(self, pair: Pair) -> Pair:
        """The weights of this head's channels."""
        p, q = (None if values is None else self.own(values) for values in pair)
        return p, q


def heads_of(weights: S6Weights, piece: Piece) -> list[Head]:
    """A piece's heads, in the order of their channels; views."""
    parts = (
        parted(values, weights.heads, dim)
        for values, dim in ((piece.delta, 1), (weights.A, 0), (piece.B, 1), (piece.C, 1))
    )
    return [Head(*head) for head in zip(weights.blocks, *parts, strict=True)]


def carried_states(weights: S6Weights, count: int) -> list[Tensor]:
    """`carried_state` of every head."""
    return [carried_state(A, count) for A in parted(weights.A, weights.heads)]


def matrices(heads: Sequence[Head], pairs: Sequence[Pair]) -> list[Tensor]:
    """K (l, l) of each pair: `attention_matrices`, the mean over all channels."""
    found: list[Tensor] = []
    for head in heads:
        own = attention_matrices(*head.system, [head.pair(pair) for pair in pairs])
        found = [total.add_(more) for total, more in zip(found, own, strict=True)] if found else own
    return found if len(heads) == 1 else [total.div_(len(heads)) for total in found]


def weighted(heads: Sequence[Head], r: Tensor, pair: Pair, states: Sequence[Tensor]) -> Tensor:
    """r K (k, l) for rows r (k, l): `weighted_rows`, the mean over all channels."""
    found = (
        weighted_rows(*head.system, r, *head.pair(pair), state)
        for head, state in zip(heads, states, strict=True)
    )
    return _mean(found, len(heads))


def apply(heads: Sequence[Head], x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """y' (l, d), and mean_d sum_s alpha[d, t, s] (l,): `apply_attention`."""
    mixed, sums = zip(
        *(
            apply_attention(*head.system, head.own(x), state)
            for head, state in zip(heads, states, strict=True)
        ),
        strict=True,
    )
    return side_by_side(mixed), _mean(iter(sums), len(heads))


def alpha_before(heads: Sequence[Head], c: Tensor, gap: Tensor) -> Tensor:
    """alpha[d, t, s] (l, d) of one query: `row_before`, c = C[t] (h n,) and gap (d,)."""
    parts = zip(heads, parted(c, len(heads)), strict=True)
    return side_by_side(
        [row_before(head.delta, head.A, head.B, own, head.own(gap)) for head, own in parts]
    )


def own_products(heads: Sequence[Head]) -> list[Tensor]:
    """sum_n |C[t, n] B[t, n]| (l,) of each head: what a query reads of its own token."""
    return [(head.C * head.B).abs().sum(1) for head in heads]


def own_token(heads: Sequence[Head], products: Sequence[Tensor], values: Tensor) -> Tensor:
    """The mean over all channels of `own_products` times values (l, d): (l,)."""
    found = (
        product * head.own(values).mean(1) for head, product in zip(heads, products, strict=True)
    )
    return _mean(found, len(heads))


class HeadMoments:
    """`Moments` of every head."""

    def __init__(self, weights: S6Weights) -> None:
        self._heads = [Moments.start(A) for A in parted(weights.A, weights.heads)]

    def read(self, heads: Sequence[Head], pair: Pair) -> None:
        """Go on through the next piece of the text."""
        for moments, head in zip(self._heads, heads, strict=True):
            moments.read(*head.system, *head.pair(pair))

    def deviation(self, length: int) -> Tensor:
        """Population standard deviation (d,) after `length` tokens."""
        found = [moments.deviation(length) for moments in self._heads]
        return found[0] if len(found) == 1 else torch.cat(found)


def _mean(parts: Iterator[Tensor], count: int) -> Tensor:
    """The mean of `count` new tensors."""
    total = next(parts)
    for part in parts:
        total += part
    return total if count == 1 else total.div_(count)
