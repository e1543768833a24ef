"""The hidden-attention functions in plain torch, for tensors that are not on the CPU.

Same formulas and accuracy as the compiled ones. Sequential ones launch a few kernels per token.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# Elements of a temporary (tokens, d, n) tensor.
_ELEMENTS = 1 << 24
_BLOCK = 8


def matrices(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    weightings: Sequence[tuple[Tensor | None, Tensor | None]],
) -> list[Tensor]:
    """K (l, l) for each (p, q): pairs of blocks merged bottom up, one batched product per level.

    Factors are (weightings, tokens, columns of a chunk); all weightings share the decays.
    """
    length, d = delta.shape
    n, count = A.shape[1], len(weightings)
    span = 1 << (length - 1).bit_length()
    ones = torch.ones_like(delta)
    p = torch.stack([ones if p is None else p for p, _ in weightings])
    w = torch.stack([delta if q is None else q * delta for _, q in weightings])
    delta, p, w, B, C = (_extended(v, span) for v in (delta, p, w, B, C))
    out = delta.new_zeros(count, span, span)
    step = max(1, _ELEMENTS // (span * n * count))
    for d0 in range(0, d, step):
        channels = slice(d0, d0 + step)
        left = (p[..., channels, None] * C[:, None]).flatten(2)
        right = (w[..., channels, None] * B[:, None]).flatten(2)
        exponent = (delta[:, channels, None] * A[channels]).flatten(1)
        out.diagonal(dim1=1, dim2=2).add_((left * right).sum(2))
        left *= exponent.exp()
        half = 1
        while half < span:
            pairs = span // (2 * half)
            lefts = left.view(count, pairs, 2, half, -1)
            rights = right.view(count, pairs, 2, half, -1)
            blocks = out.view(count, pairs, 2 * half, pairs, 2 * half).diagonal(dim1=1, dim2=3)
            product = lefts[:, :, 1] @ rights[:, :, 0].mT
            blocks[:, half:, :half].add_(product.permute(0, 2, 3, 1))
            decay = exponent.view(pairs, 2, 1, -1).exp()
            lefts[:, :, 1] *= decay[:, 0]
            rights[:, :, 0] *= decay[:, 1]
            exponent = exponent.view(pairs, 2, -1).sum(1)
            half *= 2
    return list(out[:, :length, :length] / d)


def _extended(values: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, rows - values.shape[-2]))


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
