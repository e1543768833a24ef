"""Reads of the hidden attention on a GPU: one row, weighted rows, moments, products.

The functions are those of `plain`, with the same arguments and results, in one launch each where
plain torch makes several a token. A program owns a few channels and runs over the tokens by itself,
with about one thread a (channel, state). Programs share nothing and every sum has one order: the
same input gives the same bits.

States, decays and sums are float64, as on the CPU: docs/decisions/0010. Slow twin:
tests/reference/hidden_attention.py.

Axes: d channel, n and m state, k row; t query, s key. Kernels load any floating type; what a
power of two has beyond the channels, states and rows is masked to zero. A product is float64 as
soon as one of its factors is, so the first one is made so.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# A program's threads, and the (channel, state) pairs it holds: one a thread, so that none waits
# for a neighbour's exponential before its own.
_WARPS = 4
_PAIRS = 32 * _WARPS
# The (channel, state, state) triples that a program of `moments` holds, eight a thread.
_TRIPLES = 8 * _PAIRS
# Tokens whose mutual exponentials `apply` evaluates directly.
_BLOCK = 8

# Left to itself triton compiles anew for a size of 1 and for multiples of 16.
_kernel = triton.jit(
    do_not_specialize=["length", "rows", "channels", "states", "r_stride", "p_stride", "q_stride"]
)


@_kernel
def row_kernel(
    delta, A, B, c, gap, out, length, channels, states, D: tl.constexpr, N: tl.constexpr
):
    """`row`, tokens from the last to the first."""
    d, n = tl.program_id(0) * D + tl.arange(0, D), tl.arange(0, N)
    on_d, on_n = d < channels, n < states
    rate = tl.load(A + d[:, None] * states + n, on_d[:, None] & on_n, 0.0)
    query = tl.load(c + n, on_n, 0.0).to(tl.float64)
    since = tl.load(gap + d, on_d, 0.0)
    last = tl.cast(length - 1, tl.int64)
    delta += last * channels
    out += last * channels
    B += last * states
    for _ in range(length):
        step = tl.load(delta + d, on_d, 0.0).to(tl.float64)
        read = tl.exp(rate * since[:, None]) * (query * tl.load(B + n, on_n, 0.0))
        tl.store(out + d, step * tl.sum(read, 1), on_d)
        since += step
        delta -= channels
        out -= channels
        B -= states
    tl.store(gap + d, since, on_d)


@_kernel
def weighted_kernel(
    delta, A, B, C, r, p, q, state, parts,
    length, rows, r_stride, p_stride, q_stride, channels, states,
    D: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """`weighted`, tokens from the last to the first; parts (program, s, k)."""
    program = tl.program_id(0)
    d, n, k = program * D + tl.arange(0, D), tl.arange(0, N), tl.arange(0, K)
    on_d, on_n, on_k = d < channels, n < states, k < rows
    pair, on_pair = d[:, None] * states + n, on_d[:, None] & on_n
    triple = k[:, None, None] * channels * states + pair
    on_triple = on_k[:, None, None] & on_pair
    rate = tl.load(A + pair, on_pair, 0.0)
    later = tl.load(state + triple, on_triple, 0.0)
    last = tl.cast(length - 1, tl.int64)
    delta += last * channels
    B += last * states
    C += last * states
    r += last + k.to(tl.int64) * r_stride
    p += last * p_stride
    q += last * q_stride
    parts += (tl.cast(program, tl.int64) * length + last) * rows
    for _ in range(length):
        step = tl.load(delta + d, on_d, 0.0).to(tl.float64)
        weight = tl.load(r, on_k, 0.0).to(tl.float64)[:, None] * tl.load(p + d, on_d, 0.0)
        later += weight[:, :, None] * tl.load(C + n, on_n, 0.0)
        read = tl.sum(later * tl.load(B + n, on_n, 0.0), 2)
        key = step * tl.load(q + d, on_d, 0.0)
        tl.store(parts + k, tl.sum(read * key, 1), on_k)
        later *= tl.exp(rate * step[:, None])
        delta -= channels
        B -= states
        C -= states
        r -= 1
        p -= p_stride
        q -= q_stride
        parts -= rows
    tl.store(state + triple, later, on_triple)


@_kernel
def moments_kernel(
    delta, A, B, C, p, q, state, products, totals,
    length, p_stride, q_stride, channels, states,
    D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """`moments`, tokens from the first to the last."""
    d, n = tl.program_id(0) * D + tl.arange(0, D), tl.arange(0, N)
    on_d, on_n = d < channels, n < states
    pair, on_pair = d[:, None] * states + n, on_d[:, None] & on_n
    triple = pair[:, :, None] * states + n
    on_triple = on_pair[:, :, None] & on_n
    rate = tl.load(A + pair, on_pair, 0.0)
    one = tl.load(state + pair, on_pair, 0.0)
    two = tl.load(products + triple, on_triple, 0.0)
    # Added up state by state, so that threads meet only once, after the last token.
    total, square = tl.zeros([D, N], tl.float64), tl.zeros([D, N, N], tl.float64)
    for _ in range(length):
        step = tl.load(delta + d, on_d, 0.0).to(tl.float64)
        decay = tl.exp(rate * step[:, None])
        key = step * tl.load(q + d, on_d, 0.0)
        fresh = key[:, None] * tl.load(B + n, on_n, 0.0)
        read = tl.load(p + d, on_d, 0.0).to(tl.float64)[:, None] * tl.load(C + n, on_n, 0.0)
        one = decay * one + fresh
        two = decay[:, :, None] * decay[:, None, :] * two + fresh[:, :, None] * fresh[:, None, :]
        total += read * one
        square += read[:, :, None] * read[:, None, :] * two
        delta += channels
        B += states
        C += states
        p += p_stride
        q += q_stride
    tl.store(state + pair, one, on_pair)
    tl.store(products + triple, two, on_triple)
    first, second = totals + d, totals + channels + d
    tl.store(first, tl.load(first, on_d, 0.0) + tl.sum(total, 1), on_d)
    tl.store(second, tl.load(second, on_d, 0.0) + tl.sum(tl.sum(square, 2), 1), on_d)


@_kernel
def apply_kernel(
    delta, A, B, C, x, state, out, parts, length, channels, states,
    D: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`apply`, block by block, inside a block one query after the other and back from each.

    v: 0 for x, 1 for ones. parts (program, t): what its channels make of ones.
    """
    program = tl.program_id(0)
    d, n, v = program * D + tl.arange(0, D), tl.arange(0, N), tl.arange(0, 2)
    on_d, on_n, on_x = d < channels, n < states, v[:, None] == 0
    pair, on_pair = d[:, None] * states + n, on_d[:, None] & on_n
    place = v[:, None, None] * channels * states + pair
    rate = tl.load(A + pair, on_pair, 0.0)
    carried = tl.load(state + place, on_pair, 0.0)
    read = carried
    parts += tl.cast(program, tl.int64) * length + v
    for start in range(0, length, BLOCK):
        for t in range(start, min(start + BLOCK, length)):
            since = tl.zeros([D], tl.float64)
            read = tl.zeros([2, D, N], tl.float64)
            for back in range(t - start + 1):
                s = tl.cast(t - back, tl.int64)
                step = tl.load(delta + s * channels + d, on_d, 0.0).to(tl.float64)
                value = tl.load(x + s * channels + d, on_d, 0.0).to(tl.float64)
                key = step * tl.where(on_x, value, 1.0)
                fresh = key[:, :, None] * tl.load(B + s * states + n, on_n, 0.0)
                read += tl.exp(rate * since[:, None]) * fresh
                since += step
            read += tl.exp(rate * since[:, None]) * carried
            query = tl.cast(t, tl.int64)
            y = tl.sum(read * tl.load(C + query * states + n, on_n, 0.0), 2)
            tl.store(out + query * channels + d + v[:, None] * 0, y, on_x & on_d)
            tl.store(parts + query - v, tl.sum(y, 1), v == 1)
        # What the block's last query reads is what the block leaves.
        carried = read
    tl.store(state + place, carried, on_pair)


def row(delta: Tensor, A: Tensor, B: Tensor, c: Tensor, gap: Tensor) -> Tensor:
    """alpha[d, t, s] as (s, d): see `plain.row`."""
    out = torch.empty(delta.shape, device=delta.device)
    _launch(row_kernel, A, delta, A, B, c, gap, out, len(delta))
    return out


def weighted(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, r: Tensor, p: Tensor, q: Tensor, state: Tensor
) -> Tensor:
    """r K (k, l): see `plain.weighted`."""
    length, rows = len(delta), len(r)
    parts = _parts(A, length, rows)
    sizes = (length, rows, r.stride(0), p.stride(0), q.stride(0))
    tensors = (delta, A, B, C, r, p, q, state, parts)
    _launch(weighted_kernel, A, *tensors, *sizes, K=triton.next_power_of_2(rows))
    return (parts.sum(0).T / len(A)).float()


def moments(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    p: Tensor,
    q: Tensor,
    state: Tensor,
    products: Tensor,
    totals: Tensor,
) -> None:
    """Sums over s <= t of p_t q_s alpha and of its square: see `plain.moments`."""
    width = max(1, _TRIPLES // triton.next_power_of_2(A.shape[1]) ** 2)
    tensors = (delta, A, B, C, p, q, state, products, totals)
    _launch(moments_kernel, A, *tensors, len(delta), p.stride(0), q.stride(0), width=width)


def apply(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, x: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """y' (l, d) = sum_s alpha x_s, and that of ones, its mean over channels: see `plain.apply`."""
    length = len(delta)
    out, parts = torch.empty(delta.shape, device=delta.device), _parts(A, length)
    _launch(apply_kernel, A, delta, A, B, C, x, state, out, parts, length, BLOCK=_BLOCK)
    return out, (parts.sum(0) / len(A)).float()


def _width(states: int) -> int:
    """Channels of a program."""
    return max(1, _PAIRS // int(triton.next_power_of_2(states)))


def _parts(A: Tensor, *shape: int) -> Tensor:
    """Room for what each program adds to a sum over channels."""
    d, n = A.shape
    return torch.empty(triton.cdiv(d, _width(n)), *shape, dtype=torch.float64, device=A.device)


def _launch(kernel: Any, A: Tensor, *args: Any, width: int | None = None, **constants: int) -> None:
    """Run `kernel` over blocks of `width` channels, on the GPU that holds the tensors."""
    d, n = A.shape
    D, N = width or _width(n), triton.next_power_of_2(n)
    with torch.cuda.device_of(A):
        kernel[(triton.cdiv(d, D),)](*args, d, n, D=D, N=N, num_warps=_WARPS, **constants)
