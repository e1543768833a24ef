"""Compiled selective scan for the CPU, with a backward pass.

h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t ;  y_t = C_t . h_t + D x_t, gated by silu(z_t).
Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
(2312.00752), algorithm 2. The backward pass keeps one state in `CHUNK` tokens and recomputes the
others, as section 3.3.2 there does on the GPU. Slow twin: tests/reference/selective_scan.py.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workers.kernels import _parallel, _scan_numba
from workers.kernels._scan_numba import BLOCK, CHUNK

_LOG2_E = 1.4426950408889634
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32)


def _tokens_first(tensor: Tensor) -> Any:
    """(b, n, l) of any layout -> (b, l, n) contiguous float32 array."""
    return _as_float32(tensor).transpose(1, 2).contiguous().numpy()


def source(tensor: Tensor | None) -> tuple[Any, int, int, int]:
    """(b, d, l) as flat float32 memory and the strides of texts, tokens and channels.

    No copy where channels or tokens lie side by side, as a model's own do; None: empty memory.
    """
    if tensor is None or not tensor.numel():
        return np.empty(0, np.float32), 0, 0, 0
    value = _as_float32(tensor)
    value = value if 1 in value.stride()[1:] else value.contiguous()
    extent = 1 + sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True))
    text, channel, token = value.stride()
    return value.as_strided((extent,), (1,)).numpy(), text, token, channel


def _operands(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
) -> tuple[Any, ...]:
    """The kernels' view of the operands: sources, A2, keys, vectors, gate."""
    return (
        (source(x), source(dt)),
        _states_first(A) * np.float32(_LOG2_E),
        (_tokens_first(B), _tokens_first(C)),
        (_per_channel(D, x.shape[1]), _per_channel(bias, x.shape[1])),
        source(z),
    )


def _per_channel(tensor: Tensor | None, channels: int) -> Any:
    if tensor is None:
        return np.zeros(channels, np.float32)
    return _as_float32(tensor).contiguous().numpy()


def _states_first(A: Tensor) -> Any:
    """(d, n) or (b, d, n) with the last two axes exchanged, as a contiguous float32 array."""
    return _as_float32(A).mT.contiguous().numpy()


class _SelectiveScan(torch.autograd.Function):
    """The autograd node; `keep` says whether a backward pass may follow."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        bias: Tensor | None,
        initial: Tensor | None,
        softplus: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        b, d, length = x.shape
        n = A.shape[1]
        out = np.empty((b, length, d), np.float32)
        borders = np.empty((b if keep else 0, -(-length // CHUNK), n, d), np.float32)
        last_state = np.empty((b, n, d), np.float32)
        first_state = np.zeros((b, n, d), np.float32) if initial is None else _states_first(initial)
        operands = _operands(x, dt, A, B, C, D, z, bias)
        work = (*operands, softplus, first_state, out, borders, last_state)
        _parallel.run(_scan_numba.forward, b * -(-d // BLOCK), b * length * d * n, *work)
        if keep:
            ctx.save_for_backward(x, dt, A, B, C, D, z, bias, initial)
            ctx.softplus, ctx.borders = softplus, borders
        return (
            torch.from_numpy(out).transpose(1, 2).to(x.dtype),
            torch.from_numpy(last_state).transpose(1, 2),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_last: Tensor) -> tuple[Any, ...]:
        x, dt, A, B, C, D, z, bias, _ = ctx.saved_tensors
        (b, d, length), n = x.shape, A.shape[1]
        blocks = -(-d // BLOCK)
        wanted = ctx.needs_input_grad
        parameters = wanted[2] or wanted[5]
        grads = (
            *(np.empty((b, length, d), np.float32) for _ in range(3)),
            *(np.empty((blocks, b, length, n), np.float32) for _ in range(2)),
            *(np.zeros((b, n, d), np.float32) for _ in range(2)),
            np.zeros((b, d), np.float32),
        )
        sources, *rest = _operands(x, dt, A, B, C, D, z, bias)
        work = (sources, _states_first(A), *rest, ctx.softplus, ctx.borders)
        outer = (source(grad_out), _states_first(grad_last))
        size = b * length * d * n
        _parallel.run(_scan_numba.backward, b * blocks, size, *work, outer, grads, parameters)
        grad_x, grad_dt, grad_z, grad_B, grad_C, grad_A, grad_initial, grad_D = map(
            torch.from_numpy, grads
        )
        found = (
            grad_x.transpose(1, 2),
            grad_dt.transpose(1, 2),
            grad_A.sum(0).t() if wanted[2] else None,
            grad_B.sum(0).transpose(1, 2) if wanted[3] else None,
            grad_C.sum(0).transpose(1, 2) if wanted[4] else None,
            grad_D.sum(0) if wanted[5] else None,
            grad_z.transpose(1, 2) if wanted[6] else None,
            grad_dt.sum((0, 1)) if wanted[7] else None,
            grad_initial.transpose(1, 2) if wanted[8] else None,
        )
        typed = zip(found, ctx.saved_tensors, wanted, strict=False)
        return (
            *(g.to(v.dtype) if g is not None and want else None for g, v, want in typed),
            None,
            None,
        )


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    initial_state: Tensor | None = None,
) -> Any:
    """The gated selective scan of a Mamba-1 mixer, differentiable in every tensor once.

    The signature is that of transformers' `mamba_selective_scan`, which it replaces, and the state
    before the first token, zero unless given.

    Shapes: hidden_states, dt, z (b, d, l); A (d, n); B, C (b, n, l); D, delta_bias (d,);
    initial_state (b, d, n).
    Returns y (b, d, l) in the dtype of `hidden_states` (its memory is laid out (b, l, d), ready
    for the output projection), and with `return_last_state` also h (b, d, n) in float32.
    State and sums are float32 for any input dtype. A decay below 2^-126 is zero.

    Cost: O(b l d n) time. Memory O(b l d); with gradients also O(b d n l / 32) for saved states
    and O(b l n d / 64) for partial sums; never a (b, l, d, n) tensor.

    Raises:
        ValueError: a tensor's shape does not fit the others.
        TypeError: a tensor is not on the CPU, or neither float32, bfloat16 nor float16.
    """
    tensors = (hidden_states, dt, A, B, C, D, z, delta_bias, initial_state)
    _check(*tensors)
    keep = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)
    y, last_state = _SelectiveScan.apply(*tensors, delta_softplus, keep)  # type: ignore[no-untyped-call]
    return (y, last_state) if return_last_state else y


def _check(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    initial: Tensor | None,
) -> None:
    if x.ndim != 3:
        raise ValueError(f"hidden_states has shape {tuple(x.shape)}; give (batch, channel, token)")
    if A.ndim != 2:
        raise ValueError(f"A has shape {tuple(A.shape)}; give (channel, state)")
    (b, d, length), n = x.shape, A.shape[1]
    expected = {
        "dt": (dt, (b, d, length)),
        "A": (A, (d, n)),
        "B": (B, (b, n, length)),
        "C": (C, (b, n, length)),
        "D": (D, (d,)),
        "z": (z, (b, d, length)),
        "delta_bias": (bias, (d,)),
        "initial_state": (initial, (b, d, n)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; give {shape}")
    for name, tensor in {"hidden_states": x, **{k: v for k, (v, _) in expected.items()}}.items():
        if tensor is not None and not handles(tensor):
            raise TypeError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                "give float32, bfloat16 or float16 on the CPU"
            )


def handles(tensor: Tensor) -> bool:
    """Whether the kernels compute with this tensor."""
    return tensor.is_cpu and tensor.dtype in _DTYPES
