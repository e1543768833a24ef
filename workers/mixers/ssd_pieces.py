"""The weights of an SSD mixer, and what they make of a piece of a text.

Axes: l tokens of the piece, h head, p channel of a head, d = h p channel, g group, n state,
m hidden size, j tap of the convolution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from workers.kernels.ssd import System, apply_attention
from workers.mixers.convolution import convolve


@dataclass(frozen=True)
class Gate:
    """How a mixer's scan output y (l, d) becomes its neurons: silu(z), and an RMS norm in groups.

    weight (d,), or None where there is no norm; `norm_first` norms y before the gate, else the
    product is normed.
    """

    weight: Tensor | None
    groups: int
    eps: float
    norm_first: bool = False

    def gain(self, y: Tensor, z: Tensor) -> Tensor:
        """(l, d): neurons / y, the norm's own scale included."""
        opened = functional.silu(z)
        if self.weight is None:
            return opened
        normed = y if self.norm_first else y * opened
        return self._times(opened, self._scale(normed)).mul_(self.weight)

    def pull(self, outer: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """d target / d y (l, d), from d target / d neurons (l, d)."""
        opened = functional.silu(z)
        if self.weight is None:
            return outer * opened
        wide = outer * self.weight
        normed, wide = (y, wide * opened) if self.norm_first else (y * opened, wide)
        scale = self._scale(normed)
        shared = (self._grouped(wide) * self._grouped(normed)).mean(-1, keepdim=True)
        shift = self._times(normed, shared * scale.pow(3))
        pulled = self._times(wide, scale).sub_(shift)
        return pulled if self.norm_first else pulled.mul_(opened)

    def _scale(self, values: Tensor) -> Tensor:
        """(l, groups, 1): 1 / root mean square of each group."""
        return (self._grouped(values).square().mean(-1, keepdim=True) + self.eps).rsqrt()

    def _grouped(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), self.groups, -1)

    def _times(self, values: Tensor, of_groups: Tensor) -> Tensor:
        """(l, d) times (l, groups, 1)."""
        return (self._grouped(values) * of_groups).view_as(values)


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `stop` inside an SSD mixer, in float32.

    conv_input u, conv_output c, x = silu(c), gate z before silu, mixed y' = sum_s alpha x: (l, d);
    row_sums sum_s alpha (l, h).
    """

    start: int
    conv_input: Tensor
    conv_output: Tensor
    x: Tensor
    gate: Tensor
    system: System
    mixed: Tensor
    row_sums: Tensor

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
        kept = slice(0, stop - self.start)
        of_tokens = (self.conv_input, self.conv_output, self.x, self.gate)
        u, conv, x, gate = (values[kept] for values in of_tokens)
        system, mixed, sums = self.system.at(kept), self.mixed[kept], self.row_sums[kept]
        return Piece(self.start, u, conv, x, gate, system, mixed, sums)


@dataclass(frozen=True)
class SSDWeights:
    """An SSD mixer's weights in float32.

    in_weight (2 d + 2 g n + h, m) makes z, what the convolution reads for x, B and C, and the step;
    in_bias likewise or None; conv_weight (d + 2 g n, j), conv_bias likewise or None; step_bias
    (h,); step_limit what Delta is clamped to; A (h,) negative; D (h,); out_weight (m, d); out_bias
    (m,) or None.
    """

    in_weight: Tensor
    in_bias: Tensor | None
    conv_weight: Tensor
    conv_bias: Tensor | None
    step_bias: Tensor
    step_limit: tuple[float, float]
    A: Tensor
    D: Tensor
    gate: Gate
    out_weight: Tensor
    out_bias: Tensor | None
    groups: int

    @property
    def channels(self) -> int:
        """d."""
        return self.out_weight.shape[1]

    @property
    def head_channels(self) -> int:
        """p."""
        return self.channels // len(self.A)

    @property
    def states(self) -> int:
        """n."""
        return (len(self.conv_weight) - self.channels) // (2 * self.groups)

    @property
    def taps(self) -> int:
        """j, the positions that the convolution reads."""
        return self.conv_weight.shape[1]

    @property
    def x_conv_weight(self) -> Tensor:
        """(d, j): the part of the convolution that makes x."""
        return self.conv_weight[: self.channels]

    @property
    def x_conv_bias(self) -> Tensor | None:
        """(d,), or None without one."""
        return None if self.conv_bias is None else self.conv_bias[: self.channels]

    @property
    def skip(self) -> Tensor:
        """D of every channel (d,)."""
        return self.D.repeat_interleave(self.head_channels)

    def piece(self, hidden: Tensor, start: int, stop: int, state: Tensor | None) -> Piece:
        """Recompute tokens `start` to `stop` from the mixer's input (l, m) of the whole text.

        state, `kernels.ssd.carried_state` after the tokens before, is carried on. Cost: the mixer's
        projections, O(d m) a token, and O(d n) for its scan; nothing is kept.
        """
        lead, d = min(start, self.taps - 1), self.channels
        rows = hidden[start - lead : stop].detach().float()
        projected = functional.linear(rows, self.in_weight, self.in_bias)
        gate, u, step = torch.split(projected, [d, len(self.conv_weight), len(self.A)], dim=1)
        conv = convolve(u, lead, self.conv_weight, self.conv_bias)
        selected = functional.silu(conv)
        width = (len(self.conv_weight) - d) // 2
        parts = torch.split(selected, [d, width, width], dim=1)
        x, B, C = (part.contiguous() for part in parts)
        delta = functional.softplus(step[lead:] + self.step_bias).clamp(*self.step_limit)
        shape = (len(x), self.groups, -1)
        system = System(delta, self.A, B.view(shape), C.view(shape))
        mixed, sums = apply_attention(system, x, state)
        return Piece(start, u[lead:, :d], conv[:, :d], x, gate[lead:], system, mixed, sums)

    def scanned(self, piece: Piece) -> Tensor:
        """y (l, d): what the mixer's scan gives, D included."""
        return torch.addcmul(piece.mixed, self.skip, piece.x)

    def output(self, neurons: Tensor) -> Tensor:
        """(l, m): the output projection, of (l, d)."""
        return functional.linear(neurons, self.out_weight, self.out_bias)
