"""Slow float64 twin of the causal convolution with SiLU: the sum as written, token by token."""

import torch
from torch import Tensor


def causal_conv(
    u: Tensor, weight: Tensor, bias: Tensor | None = None, initial: Tensor | None = None
) -> Tensor:
    """x_t = silu(bias + sum_j weight_j u_{t-J+1+j}); u (b,d,l), weight (d,j), initial (b,d,j-1)."""
    u, weight, taps = u.double(), weight.double(), weight.shape[1]
    before = u.new_zeros(*u.shape[:2], taps - 1) if initial is None else initial.double()
    rows = torch.cat([before, u], dim=2)
    outputs = []
    for t in range(u.shape[2]):
        c = sum(weight[:, j] * rows[:, :, t + j] for j in range(taps))
        c = c if bias is None else c + bias.double()
        outputs.append(c / (1 + torch.exp(-c)))
    return torch.stack(outputs, dim=2) if outputs else torch.zeros_like(u)
