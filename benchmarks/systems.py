"""Made-up scans of one layer of the 130M shape: delta (l, d), A (d, n), B and C (l, n)."""

import torch
from torch import Tensor

from workers.kernels import ssd

CHANNELS, STATES = 1536, 16
# Those of a Mamba-2 of the same channels, in one group.
HEADS, HEAD_STATES = 24, 128
System = tuple[Tensor, Tensor, Tensor, Tensor]


def initialised(length: int, channels: int = CHANNELS) -> System:
    """A as Mamba initialises it, delta log-uniform in 0.001..0.1."""
    draw = torch.Generator().manual_seed(0)
    A = -torch.arange(1.0, STATES + 1).repeat(channels, 1)
    delta = torch.rand(length, channels, generator=draw).mul_(2).sub_(3)
    torch.pow(10.0, delta, out=delta)
    return delta, A, *torch.randn(2, length, STATES, generator=draw)


def wide(length: int, channels: int = CHANNELS) -> System:
    """A and delta spread over four orders of magnitude, per channel and per token."""
    draw = torch.Generator().manual_seed(1)
    A = -(10 ** (torch.rand(channels, STATES, generator=draw) * 4 - 2))
    per_channel = 10 ** (torch.rand(channels, generator=draw) * 3 - 4)
    delta = per_channel * torch.rand(length, channels, generator=draw) * 2
    return delta, A, *torch.randn(2, length, STATES, generator=draw)


def unforgetting(length: int, channels: int = CHANNELS) -> System:
    """Decays so slow that no pair of tokens can be left out: the worst case."""
    delta, A, B, C = initialised(length, channels)
    return delta, A * 1e-3, B, C


def of_heads(length: int, heads: int = HEADS, states: int = HEAD_STATES) -> ssd.System:
    """A and delta as Mamba-2 initialises them, delta log-uniform in 0.001..0.1."""
    draw = torch.Generator().manual_seed(3)
    A = -torch.arange(1.0, heads + 1)
    delta = 10 ** (torch.rand(length, heads, generator=draw) * 2 - 3)
    return ssd.System(delta, A, *torch.randn(2, length, 1, states, generator=draw))
