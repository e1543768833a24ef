"""The weights of an S6 mixer, and what they make of a piece of a text.

Axes: l tokens of the piece, d channel, n state, h head, m hidden size, j tap of the convolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from workers.mixers.convolution import convolve


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `stop` inside an S6 mixer, in float32.

    conv_input u, conv_output c, x = silu(c), gate z before silu, delta after softplus: (l, d); B, C
    (l, h n), head beside head.
    """

    start: int
    conv_input: Tensor
    conv_output: Tensor
    x: Tensor
    gate: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor

    @property
    def stop(self) -> int:
        """The position after the last token."""
        return self.start + len(self.x)

    @property
    def tokens(self) -> slice:
        """Where the piece lies in the text."""
        return slice(self.start, self.stop)

    def until(self, stop: int) -> "Piece":
        """The piece without what lies at `stop` or after it."""
        if stop >= self.stop:
            return self
        end = stop - self.start
        tensors = (v[:end] for name, v in vars(self).items() if name != "start")
        return Piece(self.start, *tensors)


@dataclass(frozen=True)
class RmsNorm:
    """v / sqrt(mean(v^2) + eps) over the last axis, times weight (k,) where there is one."""

    eps: float
    weight: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """(l, k) of (l, k)."""
        return functional.rms_norm(values, values.shape[-1:], self.weight, self.eps)


@dataclass(frozen=True)
class S6Weights:
    """An S6 mixer's weights in float32.

    in_weight (2 d, m), of which the first half makes u and the second z, or where `interleaved`
    every even row u and every odd one z; in_bias (2 d,) or None; conv_weight (d, j), the last tap
    reads the position itself; conv_bias (d,) or None; selection (rank + 2 n, d) makes the step's
    low-rank form, B and C; step_weight (d, rank); step_bias (d,); A (d, n) negative; D (d,);
    out_weight (m, d); out_bias (m,) or None. norms: of the step's low-rank form, B and C, or None.

    Of several heads each has its own block of d / h channels, from which alone its own step, B and
    C are made: selection is then (h (rank + 2 n), d / h), head below head.
    """

    in_weight: Tensor
    in_bias: Tensor | None
    conv_weight: Tensor
    conv_bias: Tensor | None
    selection: Tensor
    step_weight: Tensor
    step_bias: Tensor
    A: Tensor
    D: Tensor
    out_weight: Tensor
    out_bias: Tensor | None
    heads: int = 1
    norms: tuple[RmsNorm, RmsNorm, RmsNorm] | None = None
    interleaved: bool = False

    @property
    def blocks(self) -> list[slice]:
        """Each head's channels."""
        width = len(self.D) // self.heads
        return [slice(first, first + width) for first in range(0, len(self.D), width)]

    @property
    def taps(self) -> int:
        """j, the positions that the convolution reads."""
        return self.conv_weight.shape[1]

    def piece(self, hidden: Tensor, start: int, stop: int) -> Piece:
        """Recompute tokens `start` to `stop` from the mixer's input (l, m) of the whole text.

        Cost: the mixer's projections, O(d m) a token; nothing is kept.
        """
        lead = min(start, self.taps - 1)
        rows = hidden[start - lead : stop].detach().float()
        u, gate = self._halves(functional.linear(rows, self.in_weight, self.in_bias))
        conv = convolve(u, lead, self.conv_weight, self.conv_bias)
        x = functional.silu(conv)
        of_heads = zip(
            parted(x, self.heads, 1),
            *(parted(v, self.heads) for v in (self.selection, self.step_weight, self.step_bias)),
            strict=True,
        )
        selected = (self._select(*head) for head in of_heads)
        delta, B, C = (side_by_side(parts) for parts in zip(*selected, strict=True))
        return Piece(start, u[lead:], conv, x, gate[lead:], delta, B, C)

    def output(self, neurons: Tensor) -> Tensor:
        """(l, m): the output projection, of (l, d)."""
        return functional.linear(neurons, self.out_weight, self.out_bias)

    def _halves(self, projected: Tensor) -> Sequence[Tensor]:
        """u and z (l, d) of (l, 2 d)."""
        if not self.interleaved:
            return projected.chunk(2, dim=1)
        # Copies, of what every later step would otherwise read with gaps.
        return projected[:, 0::2].contiguous(), projected[:, 1::2].contiguous()

    def _select(
        self, x: Tensor, selection: Tensor, step_weight: Tensor, step_bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """delta (l, d / h), B and C (l, n) of a head, from its part of x and of the weights."""
        rank, states = step_weight.shape[1], self.A.shape[1]
        selected = functional.linear(x, selection)
        parts = torch.split(selected, [rank, states, states], dim=1)
        step, B, C = (part.contiguous() for part in parts)
        if self.norms is not None:
            step, B, C = (norm(v) for norm, v in zip(self.norms, (step, B, C), strict=True))
        return functional.softplus(functional.linear(step, step_weight, step_bias)), B, C


def parted(values: Tensor, heads: int, dim: int = 0) -> Sequence[Tensor]:
    """Each head's part of `values`, views; a single head's is `values` itself.

    Views are not free: of a single head they would add 7 % to the matrices of seven tokens.
    """
    return (values,) if heads == 1 else values.chunk(heads, dim)


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """(l, sum of widths): the heads' parts in their order; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
