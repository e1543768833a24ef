"""The causal depthwise convolution of state-space mixers, read forwards and backwards.

Axes: l tokens, d channel, j tap; weight (d, j), whose last tap reads the position itself.
"""

import torch
from torch import Tensor


def convolve(u: Tensor, lead: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(l, d): c[t] = sum_j w[j] u[t - J + 1 + j] + bias, of u (lead + l, d).

    The first `lead` tokens only lead in; zeros lie before the text. Cost O(j l d).
    """
    length, taps = len(u) - lead, weight.shape[1]
    total = u.new_zeros(length, u.shape[1])
    if bias is not None:
        total += bias
    for lag in range(taps):
        # Tokens whose tap would lie before the text read nothing by it.
        first = max(0, lag - lead)
        if first < length:
            source = u[lead + first - lag : len(u) - lag]
            total[first:].addcmul_(source, weight[:, taps - 1 - lag])
    return total


def convolve_back(through: Tensor, weight: Tensor) -> Tensor:
    """(l, d): sum_k through[k, d] w[d, k - s] at [s, d]. Cost O(j l d)."""
    rows, taps = len(through), weight.shape[1]
    total = torch.zeros_like(through)
    for lag in range(min(taps, rows)):
        total[: rows - lag].addcmul_(through[lag:], weight[:, taps - 1 - lag])
    return total
