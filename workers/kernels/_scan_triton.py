"""The selective scan on a GPU, with a backward pass, where mamba-ssm is not installed.

h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t ;  y_t = C_t . h_t, in two kernels. What stands
around them (the softplus, D x, the gate) is torch's, with gradients by autograd. A program owns a
few channels of one text and runs over the tokens by itself, with about one thread a (channel,
state). The backward pass keeps one state in `CHUNK` tokens and recomputes the others: Gu and Dao
(2312.00752), section 3.3.2. Slow twin: tests/reference/selective_scan.py.

Axes: b text, d channel, n state, l or t token. All float32, as in the CPU's scan; what a power of
two has beyond the channels and states is masked to zero.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# One (channel, state) a thread.
_WARPS = 4
_PAIRS = 32 * _WARPS
# Tokens between two saved states.
CHUNK = 32

_kernel = triton.jit(do_not_specialize=["length", "chunk", "channels", "states"])


@_kernel
def forward_kernel(
    x, delta, A, B, C, out, borders, last_state, length, chunk, channels, states,
    D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """x, delta, out (b, l, d); B, C (b, l, n); borders (b, chunks, d, n): the states before."""
    text = tl.program_id(1).to(tl.int64)
    d, n = tl.program_id(0) * D + tl.arange(0, D), tl.arange(0, N)
    on_d, on_n = d < channels, n < states
    pair, on_pair = d[:, None] * states + n, on_d[:, None] & on_n
    rate = tl.load(A + pair, on_pair, 0.0)
    h = tl.zeros([D, N], tl.float32)
    x += text * length * channels
    delta += text * length * channels
    out += text * length * channels
    B += text * length * states
    C += text * length * states
    borders += text * tl.cdiv(length, chunk) * channels * states
    for t in range(length):
        if t % chunk == 0:
            tl.store(borders + pair, h, on_pair)
            borders += channels * states
        step = tl.load(delta + d, on_d, 0.0)
        fresh = (step * tl.load(x + d, on_d, 0.0))[:, None] * tl.load(B + n, on_n, 0.0)
        h = tl.exp(rate * step[:, None]) * h + fresh
        tl.store(out + d, tl.sum(h * tl.load(C + n, on_n, 0.0), 1), on_d)
        x += channels
        delta += channels
        out += channels
        B += states
        C += states
    tl.store(last_state + text * channels * states + pair, h, on_pair)


@_kernel
def backward_kernel(
    x, delta, A, B, C, borders, grad_out, grad_last, scratch,
    grad_x, grad_delta, grad_A, grad_B, grad_C, length, chunk, channels, states,
    D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradients of `forward_kernel`; grad_A (b, d, n), grad_B and grad_C (block, b, l, n) in parts.

    scratch (b, block, chunk, D, N): a chunk's states, which a program writes and reads back.
    """
    block, text = tl.program_id(0), tl.program_id(1).to(tl.int64)
    d, n = block * D + tl.arange(0, D), tl.arange(0, N)
    on_d, on_n = d < channels, n < states
    pair, on_pair = d[:, None] * states + n, on_d[:, None] & on_n
    rate = tl.load(A + pair, on_pair, 0.0)
    later = tl.load(grad_last + text * channels * states + pair, on_pair, 0.0)
    slope = tl.zeros([D, N], tl.float32)
    chunks = tl.cdiv(length, chunk)
    x += text * length * channels
    delta += text * length * channels
    grad_out += text * length * channels
    grad_x += text * length * channels
    grad_delta += text * length * channels
    B += text * length * states
    C += text * length * states
    part = (block * tl.num_programs(1) + text) * length * states
    borders += text * chunks * channels * states
    held = tl.arange(0, D)[:, None] * N + n
    scratch += (text * tl.num_programs(0) + block) * chunk * D * N
    for back in range(chunks):
        start = (chunks - 1 - back) * chunk
        size = min(chunk, length - start)
        border = tl.cast(chunks - 1 - back, tl.int64) * channels * states
        h = tl.load(borders + border + pair, on_pair, 0.0)
        for i in range(size):
            t = tl.cast(start + i, tl.int64)
            tl.store(scratch + i * D * N + held, h)
            step = tl.load(delta + t * channels + d, on_d, 0.0)
            key = step * tl.load(x + t * channels + d, on_d, 0.0)
            fresh = key[:, None] * tl.load(B + t * states + n, on_n, 0.0)
            h = tl.exp(rate * step[:, None]) * h + fresh
        # Another thread may read back what one has written.
        tl.debug_barrier()
        for i in range(size):
            t = tl.cast(start + size - 1 - i, tl.int64)
            step = tl.load(delta + t * channels + d, on_d, 0.0)
            value = tl.load(x + t * channels + d, on_d, 0.0)
            b_t = tl.load(B + t * states + n, on_n, 0.0)
            c_t = tl.load(C + t * states + n, on_n, 0.0)
            outer = tl.load(grad_out + t * channels + d, on_d, 0.0)[:, None]
            before = tl.load(scratch + (size - 1 - i) * D * N + held)
            decay = tl.exp(rate * step[:, None])
            key = (step * value)[:, None]
            h = decay * before + key * b_t
            tl.store(grad_C + part + t * states + n, tl.sum(outer * h, 0), on_n)
            later += outer * c_t
            tl.store(grad_B + part + t * states + n, tl.sum(later * key, 0), on_n)
            of_key = tl.sum(later * b_t, 1)
            later *= decay
            of_exponent = later * before
            slope += of_exponent * step[:, None]
            of_step = of_key * value + tl.sum(of_exponent * rate, 1)
            tl.store(grad_x + t * channels + d, of_key * step, on_d)
            tl.store(grad_delta + t * channels + d, of_step, on_d)
        tl.debug_barrier()
    tl.store(grad_A + text * channels * states + pair, slope, on_pair)


class _Scan(torch.autograd.Function):
    """y (b, l, d) and the last state (b, d, n) of contiguous float32 tensors."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor]:
        (b, length, d), n = x.shape, A.shape[1]
        out, last_state = torch.empty_like(x), x.new_empty(b, d, n)
        chunk = CHUNK if keep else max(1, length)
        borders = x.new_empty(b, triton.cdiv(length, chunk), d, n)
        tensors = (x, delta, A, B, C, out, borders, last_state)
        _launch(forward_kernel, b, A, *tensors, length, chunk)
        if keep:
            ctx.save_for_backward(x, delta, A, B, C, borders)
        return out, last_state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        x, delta, A, B, C, borders = ctx.saved_tensors
        (b, length, d), n = x.shape, A.shape[1]
        D, N = _tile(n)
        blocks = triton.cdiv(d, D)
        outer = (grad_out.contiguous(), grad_last.contiguous())
        scratch = x.new_empty(b, blocks, CHUNK, D, N)
        grad_x, grad_delta, grad_A = torch.empty_like(x), torch.empty_like(x), x.new_empty(b, d, n)
        parts = x.new_empty(2, blocks, b, length, n)
        grads = (grad_x, grad_delta, grad_A, parts[0], parts[1])
        tensors = (x, delta, A, B, C, borders, *outer, scratch, *grads)
        _launch(backward_kernel, b, A, *tensors, length, CHUNK)
        grad_B, grad_C = parts.sum(1)
        return grad_x, grad_delta, grad_A.sum(0), grad_B, grad_C, None


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
) -> Any:
    """The gated selective scan of a Mamba-1 mixer: see `selective_scan.selective_scan`."""
    x, delta, A, B, C = (v.float() for v in (hidden_states, dt, A, B, C))
    delta = delta if delta_bias is None else delta + delta_bias.float()[:, None]
    delta = functional.softplus(delta) if delta_softplus else delta
    rows = [v.transpose(1, 2).contiguous() for v in (x, delta, B, C)]
    found, last_state = _scan(rows[0], rows[1], A.contiguous(), rows[2], rows[3])
    y = found.transpose(1, 2)
    y = y if D is None else y + D.float()[:, None] * x
    y = (y if z is None else y * functional.silu(z.float())).to(hidden_states.dtype)
    return (y, last_state) if return_last_state else y


def _scan(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    keep = torch.is_grad_enabled() and any(v.requires_grad for v in tensors)
    found: tuple[Tensor, Tensor] = _Scan.apply(*tensors, keep)
    return found


def _tile(states: int) -> tuple[int, int]:
    """Channels and states of a program."""
    N = int(triton.next_power_of_2(states))
    return max(1, _PAIRS // N), N


def _launch(kernel: Any, texts: int, A: Tensor, *args: Any) -> None:
    """Run `kernel` over blocks of channels and the texts, on the GPU that holds the tensors."""
    (d, n), (D, N) = A.shape, _tile(A.shape[1])
    with torch.cuda.device_of(A):
        kernel[(triton.cdiv(d, D), texts)](*args, d, n, D=D, N=N, num_warps=_WARPS)
