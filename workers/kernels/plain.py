"""The hidden-attention functions in plain torch, for tensors that are not on the CPU.

Same formulas and accuracy as the compiled ones. Sequential ones launch a few kernels per token.
"""

import torch
from torch import Tensor

# Elements of a temporary (tokens, d, n) tensor.
_ELEMENTS = 1 << 24
_BLOCK = 8


def matrix(delta: Tensor, A: Tensor, B: Tensor, C: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """K (l, l): pairs of blocks merged bottom up, one batched product per level and chunk."""
    length, d = delta.shape
    n = A.shape[1]
    span = 1 << (length - 1).bit_length()
    delta, p, w, B, C = (_extended(v, span) for v in (delta, p, q * delta, B, C))
    out = delta.new_zeros(span, span)
    step = max(1, _ELEMENTS // (span * n))
    for d0 in range(0, d, step):
        channels = slice(d0, d0 + step)
        left = (p[:, channels, None] * C[:, None]).flatten(1)
        right = (w[:, channels, None] * B[:, None]).flatten(1)
        exponent = (delta[:, channels, None] * A[channels]).flatten(1)
        out.diagonal().add_((left * right).sum(1))
        left = left * exponent.exp()
        half = 1
        while half < span:
            pairs = span // (2 * half)
            lefts, rights = left.view(pairs, 2, half, -1), right.view(pairs, 2, half, -1)
            blocks = out.view(pairs, 2 * half, pairs, 2 * half).diagonal(dim1=0, dim2=2)
            product = torch.bmm(lefts[:, 1], rights[:, 0].mT)
            blocks[half:, :half].add_(product.permute(1, 2, 0))
            decay = exponent.view(pairs, 2, 1, -1).exp()
            lefts[:, 1] *= decay[:, 0]
            rights[:, 0] *= decay[:, 1]
            exponent = exponent.view(pairs, 2, -1).sum(1)
            half *= 2
    return out[:length, :length] / d


def _extended(values: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, rows - values.shape[0]))


def row(delta: Tensor, A: Tensor, B: Tensor, c: Tensor) -> Tensor:
    """alpha[d, last, s] as (s, d)."""
    length, d = delta.shape
    total = delta.double().flip(0).cumsum(0).flip(0)
    gap = torch.cat([total[1:], total.new_zeros(1, d)]).float()
    out = torch.empty_like(delta)
    step = max(1, _ELEMENTS // A.numel())
    for s in range(0, length, step):
        tokens = slice(s, s + step)
        decay = (gap[tokens, :, None] * A).exp()
        out[tokens] = delta[tokens] * torch.einsum("sdn,sn->sd", decay, B[tokens] * c)
    return out


def weighted(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, r: Tensor, p: Tensor, q: Tensor
) -> Tensor:
    """r^T K (l,) by a reverse scan."""
    length, d = delta.shape
    delta, A, B, C, r, p, q = (v.double() for v in (delta, A, B, C, r, p, q))
    state = torch.zeros_like(A)
    out = delta.new_empty(length)
    for s in range(length - 1, -1, -1):
        if s + 1 < length:
            state = state * (delta[s + 1, :, None] * A).exp()
        state = state + (r[s] * p[s])[:, None] * C[s]
        out[s] = (q[s] * delta[s] * (state @ B[s])).sum() / d
    return out.float()


def moments(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums (d,) over s <= t of p_t q_s alpha and of its square, in float64."""
    delta, A, B, C, p, q = (v.double() for v in (delta, A, B, C, p, q))
    state = torch.zeros_like(A)
    square = A.new_zeros(*A.shape, A.shape[1])
    total, total_square = A.new_zeros(A.shape[0]), A.new_zeros(A.shape[0])
    for t in range(delta.shape[0]):
        decay = (delta[t, :, None] * A).exp()
        fresh = (delta[t] * q[t])[:, None] * B[t]
        state = decay * state + fresh
        square = decay[:, :, None] * decay[:, None] * square + fresh[:, :, None] * fresh[:, None]
        total = total + p[t] * (state @ C[t])
        total_square = total_square + p[t] ** 2 * (square @ C[t] @ C[t])
    return total, total_square


def apply(delta: Tensor, A: Tensor, B: Tensor, C: Tensor, x: Tensor) -> Tensor:
    """y' (l, d) = sum_s alpha x_s, from exponentials of differences."""
    out = torch.empty_like(delta)
    delta, A, B, C, w = (v.double() for v in (delta, A, B, C, x * delta))
    carried = torch.zeros_like(A)
    for start in range(0, delta.shape[0], _BLOCK):
        tokens = slice(start, start + _BLOCK)
        since = delta[tokens].cumsum(0)
        size = since.shape[0]
        causal = torch.ones(size, size, dtype=torch.bool, device=delta.device).tril()
        gap = (since[:, None] - since[None]).masked_fill(~causal[..., None], torch.inf)
        decay = (gap[..., None] * A).exp()
        from_start = (since[..., None] * A).exp()
        y = torch.einsum("tn,sn,tsdn,sd->td", C[tokens], B[tokens], decay, w[tokens])
        out[tokens] = (y + torch.einsum("tn,tdn,dn->td", C[tokens], from_start, carried)).float()
        fresh = torch.einsum("sn,sdn,sd->dn", B[tokens], decay[-1], w[tokens])
        carried = from_start[-1] * carried + fresh
    return out
