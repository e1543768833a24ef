"""Slow float64 twin of the selective scan: the recurrence as written, one token at a time."""

import torch
from torch import Tensor
from torch.nn import functional


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y, last state) of h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t; y_t = C_t . h_t + D x_t.

    Source: Gu and Dao (2312.00752), algorithm 2. Shapes: x, dt, z (b,d,l); A (d,n); B, C (b,n,l);
    D, delta_bias (d,); initial_state (b,d,n), zero unless given -> (b,d,l) and (b,d,n).
    Differentiable by autograd; keeps everything.
    """
    x, dt, A, B, C = (tensor.double() for tensor in (x, dt, A, B, C))
    delta = dt if delta_bias is None else dt + delta_bias.double()[:, None]
    # The threshold makes softplus exact in float64 as far as it can be.
    delta = functional.softplus(delta, threshold=40.0) if delta_softplus else delta
    shape = (x.shape[0], x.shape[1], A.shape[1])
    h = x.new_zeros(shape) if initial_state is None else initial_state.double()
    outputs = []
    for t in range(x.shape[2]):
        decay = torch.exp(delta[:, :, t, None] * A)
        h = decay * h + torch.einsum("bd,bn->bdn", delta[:, :, t] * x[:, :, t], B[:, :, t])
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    y = torch.stack(outputs, dim=2) if outputs else torch.zeros_like(x)
    y = y if D is None else y + D.double()[:, None] * x
    y = y if z is None else y * functional.silu(z.double())
    return y, h
