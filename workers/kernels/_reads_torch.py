"""The hidden-attention functions in plain torch, for tensors that are not on the CPU.

Same formulas and accuracy as the compiled ones. Sequential ones launch a few kernels per token;
`_reads_triton` has those that carry a state in one launch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from schemas.pieces import TEMPORARY

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
    step = max(1, TEMPORARY // (span * n * count))
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


def row(delta: Tensor, A: Tensor, B: Tensor, c: Tensor, gap: Tensor) -> Tensor:
    """alpha[d, t, s] as (s, d); gap (d,) float64: delta between the piece and t, carried on."""
    length = delta.shape[0]
    since = torch.cat([delta.double(), gap[None]]).flip(0).cumsum(0).flip(0)
    out = torch.empty_like(delta)
    step = max(1, TEMPORARY // A.numel())
    for s in range(0, length, step):
        tokens = slice(s, s + step)
        decay = (since[1:][tokens, :, None].float() * A).exp()
        out[tokens] = delta[tokens] * torch.einsum("sdn,sn->sd", decay, B[tokens] * c)
    gap.copy_(since[0])
    return out


def weighted(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, r: Tensor, p: Tensor, q: Tensor, state: Tensor
) -> Tensor:
    """r K (k, l) for r (k, l), by a reverse scan.

    state (k, d, n), float64, has decayed from the token after the piece to its last one; it is left
    as the same for the token before the piece.
    """
    length, d = delta.shape
    delta, A, B, C, r, p, q = (v.double() for v in (delta, A, B, C, r, p, q))
    out = delta.new_empty(len(r), length)
    for s in range(length - 1, -1, -1):
        state += (r[:, s, None] * p[s])[..., None] * C[s]
        out[:, s] = (q[s] * delta[s] * (state @ B[s])).sum(1) / d
        state *= (delta[s, :, None] * A).exp()
    return out.float()


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
    """Add to totals (2, d) the sums over s <= t of p_t q_s alpha and of its square, in float64.

    state (d, n) and products (d, n, n) carry the text on from the piece before.
    """
    delta, A, B, C, p, q = (v.double() for v in (delta, A, B, C, p, q))
    for t in range(delta.shape[0]):
        decay = (delta[t, :, None] * A).exp()
        fresh = (delta[t] * q[t])[:, None] * B[t]
        state.mul_(decay).add_(fresh)
        products.mul_(decay[:, :, None] * decay[:, None]).add_(fresh[:, :, None] * fresh[:, None])
        totals[0] += p[t] * (state @ C[t])
        totals[1] += p[t] ** 2 * (products @ C[t] @ C[t])


def apply(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, x: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """y' (l, d) = sum_s alpha x_s, and the same of ones (l,), its mean over channels.

    From exponentials of differences inside blocks. state (2, d, n), float64, of x and of ones,
    carries the text on from the piece before.
    """
    length = delta.shape[0]
    out, sums = torch.empty_like(delta), delta.new_empty(length)
    values = torch.stack([x * delta, delta]).double()
    delta, A, B, C = (v.double() for v in (delta, A, B, C))
    for start in range(0, length, _BLOCK):
        tokens = slice(start, start + _BLOCK)
        since, w = delta[tokens].cumsum(0), values[:, tokens]
        size = since.shape[0]
        causal = torch.ones(size, size, dtype=torch.bool, device=delta.device).tril()
        gap = (since[:, None] - since[None]).masked_fill(~causal[..., None], torch.inf)
        decay = (gap[..., None] * A).exp()
        from_start = (since[..., None] * A).exp()
        y = torch.einsum("tn,sn,tsdn,vsd->vtd", C[tokens], B[tokens], decay, w)
        y += torch.einsum("tn,tdn,vdn->vtd", C[tokens], from_start, state)
        out[tokens], sums[tokens] = y[0].float(), y[1].mean(1).float()
        fresh = torch.einsum("sn,sdn,vsd->vdn", B[tokens], decay[-1], w)
        state.mul_(from_start[-1]).add_(fresh)
    return out, sums
