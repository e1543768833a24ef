"""What SSD's hidden attention is cut into: the system, its blocks, and their factors.

Axes: l tokens, h head, p channel of a head, d = h p channel, g group, n state; L as in `ssd`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from schemas.pieces import CHUNK_SSD, LEAF_SSD


@dataclass(frozen=True)
class System:
    """What makes alpha of some tokens: delta (l, h) >= 0, A (h,) < 0, B and C (l, g, n)."""

    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    def __post_init__(self) -> None:
        if self.delta.ndim != 2 or 0 in self.delta.shape:
            raise ValueError(f"delta must be (l, h), not empty; is {tuple(self.delta.shape)}")
        length, heads = self.delta.shape
        if self.A.shape != (heads,):
            raise ValueError(f"A must be ({heads},) to go with delta, is {tuple(self.A.shape)}")
        if self.B.ndim != 3 or len(self.B) != length or self.B.shape != self.C.shape:
            shapes = f"{tuple(self.B.shape)} and {tuple(self.C.shape)}"
            raise ValueError(f"B and C must be ({length}, g, n), are {shapes}")
        if heads % self.groups:
            raise ValueError(f"{heads} heads do not share {self.groups} groups evenly")

    @property
    def length(self) -> int:
        """l."""
        return len(self.delta)

    @property
    def heads(self) -> int:
        """h."""
        return len(self.A)

    @property
    def groups(self) -> int:
        """g."""
        return self.B.shape[1]

    @cached_property
    def decay(self) -> Tensor:
        """L (l, h) float64."""
        return (self.A.double() * self.delta.double()).cumsum(0)

    def at(self, tokens: slice) -> Self:
        """The system of some of the tokens; nothing is copied."""
        return type(self)(self.delta[tokens], self.A, self.B[tokens], self.C[tokens])

    def until(self, r: Tensor, tokens: slice) -> Tensor:
        """exp(L_t - L_r) (.., h) of queries at or after r; r (h,) or what broadcasts."""
        return (self.decay[tokens] - r).exp_().float()

    def since(self, r: Tensor, tokens: slice) -> Tensor:
        """delta exp(L_r - L_s) (.., h) of keys at or before r."""
        return (r - self.decay[tokens]).exp_().float().mul_(self.delta[tokens])


@dataclass(frozen=True)
class Block:
    """`count` blocks of queries, each of `rows` after `size` keys; diagonal where `rows` is 0.

    Block i has its keys from i `step` + `first` on.
    """

    first: int
    count: int
    size: int
    rows: int

    @property
    def step(self) -> int:
        """Tokens between the starts of two neighbours."""
        return self.size if self.diagonal else 2 * self.size

    @property
    def diagonal(self) -> bool:
        """Whether the queries are the keys themselves."""
        return not self.rows

    def keys(self, values: Tensor) -> Tensor:
        """(count, size, ...): what belongs to the keys, of (l, ...)."""
        return self._cut(values, self.first, self.size)

    def queries(self, values: Tensor) -> Tensor:
        """(count, rows, ...): what belongs to the queries, of (l, ...)."""
        if self.diagonal:
            return self.keys(values)
        return self._cut(values, self.first + self.size, self.rows)

    def of(self, matrix: Tensor) -> Tensor:
        """(count, rows, size): the blocks themselves, a view of (l, l)."""
        row, column = matrix.stride()
        start = (self.first + (0 if self.diagonal else self.size)) * row + self.first * column
        shape = (self.count, self.rows or self.size, self.size)
        step = self.step * (row + column)
        return matrix.as_strided(shape, (step, row, column), matrix.storage_offset() + start)

    def _cut(self, values: Tensor, first: int, size: int) -> Tensor:
        token = values.stride(0)
        shape = (self.count, size, *values.shape[1:])
        strides = (self.step * token, *values.stride())
        return values.as_strided(shape, strides, values.storage_offset() + first * token)


def blocks(length: int) -> Iterator[Block]:
    """Every pair s <= t once: the diagonal, then blocks of keys beside those of later queries."""
    whole, rest = divmod(length, LEAF_SSD)
    if whole:
        yield Block(0, whole, LEAF_SSD, 0)
    if rest:
        yield Block(whole * LEAF_SSD, 1, rest, 0)
    size = LEAF_SSD
    while size < length:
        count, rest = divmod(length, 2 * size)
        if count:
            yield Block(0, count, size, size)
        if rest > size:
            yield Block(count * 2 * size, 1, size, rest - size)
        size *= 2


def scored(system: System, block: Block) -> Tensor:
    """C . B (g, count, rows, size) of every group."""
    C, B = block.queries(system.C), block.keys(system.B)
    return torch.matmul(C.permute(2, 0, 1, 3), B.permute(2, 0, 3, 1))


def factors(system: System, block: Block) -> tuple[Tensor, Tensor]:
    """exp(L_t - L_r) of queries and delta exp(L_r - L_s) of keys, r the last of the keys."""
    L, delta = block.keys(system.decay), block.keys(system.delta)
    r = L[:, -1:]
    after = (block.queries(system.decay) - r).exp_().float()
    return after, (r - L).exp_().float().mul_(delta)


def weighted(system: System, factor: Tensor, weight: Tensor | None) -> Tensor:
    """(g, count, tokens, h/g or d/g): a head's factor (count, tokens, h) times its channels."""
    count, tokens, heads = factor.shape
    if weight is None:
        return factor.view(count, tokens, system.groups, -1).permute(2, 0, 1, 3)
    wide = weight.reshape(count, tokens, heads, -1) * factor[..., None]
    return wide.view(count, tokens, system.groups, -1).permute(2, 0, 1, 3)


def decays_within(system: System, block: Block) -> Tensor:
    """delta exp(L_t - L_s) (count, h, t, s) of diagonal blocks, zero for s > t."""
    L, delta = block.keys(system.decay).mT, block.keys(system.delta).mT
    # Above the diagonal the difference may be anything: it is bounded before, and cut after.
    gaps = (L[..., :, None] - L[..., None, :]).clamp_(max=0.0).float()
    return gaps.exp_().mul_(delta[..., None, :]).tril_()


def alpha_within(system: System, block: Block) -> Tensor:
    """alpha (count, h, t, s) of diagonal blocks."""
    scores = to_heads(system, scored(system, block).permute(1, 2, 3, 0))
    return decays_within(system, block).mul_(scores.permute(0, 3, 1, 2))


def per_head(system: System, values: Tensor) -> Tensor:
    """(count, h, tokens, p) of (count, tokens, d)."""
    count, tokens, _ = values.shape
    return values.reshape(count, tokens, system.heads, -1).transpose(1, 2)


def to_heads(system: System, grouped: Tensor) -> Tensor:
    """(..., h) of (..., g)."""
    return grouped.repeat_interleave(system.heads // system.groups, dim=-1)


def chunks(length: int) -> Iterator[slice]:
    """The tokens of a text, as many at a time as a carried state is read by."""
    for start in range(0, length, CHUNK_SSD):
        yield slice(start, min(start + CHUNK_SSD, length))
