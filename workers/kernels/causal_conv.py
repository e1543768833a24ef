"""Compiled causal convolution with SiLU for the CPU, with a backward pass for its input.

x_t = silu(bias + sum_j weight_j u_{t-J+1+j}), each channel on its own, as between the input
projection and the scan of Mamba-1 (Gu and Dao, 2312.00752, section 3.4). It reads the projection's
memory as it lies and writes x the way that the next projection and the scan read it, one pass over
each. Slow twin: tests/reference/causal_conv.py.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workers.kernels import _conv_numba, _parallel
from workers.kernels._scan_numba import BLOCK
from workers.kernels.selective_scan import source


def _rows(tensor: Tensor) -> tuple[Any, int, int]:
    """(b, d, l) as flat float32 memory and the strides of texts and tokens, channels together."""
    value = tensor.detach().to(torch.float32)
    value = value if value.stride(1) == 1 else value.mT.contiguous().mT
    memory, text, token, _ = source(value)
    return memory, text, token


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None
    ) -> Tensor:
        b, d, length = u.shape
        ctx.save_for_backward(u, weight, bias, initial)
        out = np.empty((b, length, d), np.float32)
        work = _operands(u, weight, bias, initial)
        _parallel.run(_conv_numba.forward, b * -(-d // BLOCK), u.numel() * 8, *work, out)
        return torch.from_numpy(out).transpose(1, 2).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
        u, weight, bias, initial = ctx.saved_tensors
        (b, d, length), before = u.shape, weight.shape[1] - 1
        grads = np.empty((b, before + length, d), np.float32)
        work = (*_operands(u, weight, bias, initial), _rows(grad_out), grads)
        _parallel.run(_conv_numba.backward, b * -(-d // BLOCK), u.numel() * 16, *work)
        found = torch.from_numpy(grads).transpose(1, 2)
        grad_initial = None if initial is None else found[..., :before].to(initial.dtype)
        return found[..., before:].to(u.dtype), None, None, grad_initial


def _operands(
    u: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None
) -> tuple[Any, ...]:
    """The kernels' view of the operands: rows, initial (b, j-1, d), weight (j, d), bias (d,)."""
    (b, d, _), taps = u.shape, weight.shape[1]
    return (
        _rows(u),
        np.zeros((b, taps - 1, d), np.float32) if initial is None else _turned(initial),
        _turned(weight),
        np.zeros(d, np.float32) if bias is None else bias.detach().float().numpy(),
    )


def _turned(tensor: Tensor) -> Any:
    return tensor.detach().float().mT.contiguous().numpy()


def causal_conv(
    u: Tensor, weight: Tensor, bias: Tensor | None = None, initial: Tensor | None = None
) -> Tensor:
    """silu of the causal convolution of every channel, differentiable once in u and initial.

    Shapes: u (b, d, l); weight (d, j), the last tap reads the token itself; bias (d,); initial
    (b, d, j-1), what stands before the first token, zeros unless given. Returns (b, d, l) in u's
    dtype; its memory is laid out (b, l, d). Sums are float32 for any input dtype.

    Cost: O(b l d j) time, O(b l d) memory.

    Raises:
        ValueError: a shape does not fit, or a gradient of weight or bias would be needed.
    """
    if u.ndim != 3 or weight.ndim != 2 or weight.shape[0] != u.shape[1]:
        raise ValueError(
            f"u has shape {tuple(u.shape)} and weight {tuple(weight.shape)}; "
            "give (batch, channel, token) and (channel, tap)"
        )
    before = (u.shape[0], u.shape[1], weight.shape[1] - 1)
    if initial is not None and tuple(initial.shape) != before:
        raise ValueError(f"initial has shape {tuple(initial.shape)}; give {before}")
    if trains(weight, bias):
        raise ValueError("weight and bias are constants here; they require a gradient")
    out: Tensor = _CausalConv.apply(u, weight, bias, initial)  # type: ignore[no-untyped-call]
    return out


def trains(weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a backward pass would have to reach the parameters."""
    return torch.is_grad_enabled() and any(
        v is not None and v.requires_grad for v in (weight, bias)
    )
