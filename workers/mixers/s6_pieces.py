"""The weights of an S6 mixer, and what they make of a piece of a text.

Axes: l tokens of the piece, d channel, n state, m hidden size, j tap of the convolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `stop` inside an S6 mixer, in float32.

    conv_input u, conv_output c, x = silu(c), gate z before silu, delta after softplus: (l, d); B, C
    (l, n).
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
class S6Weights:
    """An S6 mixer's weights in float32.

    in_weight (2 d, m), of which the first half makes u and the second z; in_bias (2 d,) or None;
    conv_weight (d, j), the last tap reads the position itself; conv_bias (d,) or None; selection
    (rank + 2 n, d) makes the step's low-rank form, B and C; step_weight (d, rank); step_bias (d,);
    A (d, n) negative; D (d,); out_weight (m, d); out_bias (m,) or None.
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
        u, gate = functional.linear(rows, self.in_weight, self.in_bias).chunk(2, dim=1)
        conv = self._convolve(u, lead)
        x = functional.silu(conv)
        rank, states = self.step_weight.shape[1], self.A.shape[1]
        selected = functional.linear(x, self.selection)
        parts = torch.split(selected, [rank, states, states], dim=1)
        step, B, C = (part.contiguous() for part in parts)
        delta = functional.softplus(functional.linear(step, self.step_weight, self.step_bias))
        return Piece(start, u[lead:], conv, x, gate[lead:], delta, B, C)

    def convolve_back(self, through: Tensor) -> Tensor:
        """(l, d): sum_k through[k, d] w[d, k - s] at [s, d], the convolution read backwards."""
        rows = through.shape[0]
        total = torch.zeros_like(through)
        for lag in range(min(self.taps, rows)):
            tap = self.conv_weight[:, self.taps - 1 - lag]
            total[: rows - lag].addcmul_(through[lag:], tap)
        return total

    def output(self, neurons: Tensor) -> Tensor:
        """(l, m): the output projection, of (l, d)."""
        return functional.linear(neurons, self.out_weight, self.out_bias)

    def _convolve(self, u: Tensor, lead: int) -> Tensor:
        """c[t] = sum_j w[j] u[t - J + 1 + j] + bias from token `lead` on; zeros before the text."""
        length = len(u) - lead
        total = u.new_zeros(length, u.shape[1])
        if self.conv_bias is not None:
            total += self.conv_bias
        for lag in range(self.taps):
            # Tokens whose tap would lie before the text read nothing by it.
            first = max(0, lag - lead)
            if first < length:
                source = u[lead + first - lag : len(u) - lag]
                total[first:].addcmul_(source, self.conv_weight[:, self.taps - 1 - lag])
        return total


def piece_borders(length: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the pieces of a text, in order."""
    for start in range(0, length, size):
        yield start, min(start + size, length)
