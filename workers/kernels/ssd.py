"""Hidden attention of a structured state space duality (SSD, Mamba-2), without a matrix a channel.

For one text of l tokens, h heads of p channels each (d = h p, heads side by side) in g groups, with
L the cumulative sum of A delta over tokens (so L never rises) and s <= t,

    alpha[h, t, s] = delta[s, h] (C[t, g] . B[s, g]) exp(L[t, h] - L[s, h]),

the weight with which every channel of head h at query t reads its own input at key s. Sources: Dao
and Gu, "Transformers are SSMs" (2405.21060); Ali, Zimerman and Wolf (2403.01590).

The one decay a head lets a block of queries after a block of keys factor: with r between them,

    sum_h p q alpha = (C B^T) * sum_h (p exp(L_t - L_r)) (q delta exp(L_r - L_s))^T,

both exponents <= 0, so that a group's heads and channels are one matrix product, and the products
of blocks of one size one batched product. Everything is plain torch and runs on any device.
Weights p and q are (l, d), None stands for ones. All computes in float32 without a graph; wrong
shapes raise `ValueError`. Slow twin: tests/reference/ssd.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.kernels._ssd_blocks import (
    Block,
    System,
    alpha_within,
    blocks,
    chunks,
    decays_within,
    factors,
    per_head,
    scored,
    to_heads,
    weighted,
)
from workers.kernels._ssd_moments import Moments

__all__ = [
    "Moments",
    "System",
    "apply_attention",
    "attention_matrices",
    "attention_row",
    "carried_state",
    "weighted_rows",
]

Weights = tuple[Tensor | None, Tensor | None]


def attention_matrices(system: System, weightings: Sequence[Weights]) -> list[Tensor]:
    """K (l, l) for each (p, q): K[t, s] = (1/d) sum_d p[t, d] q[s, d] alpha[h(d), t, s].

    Zero above the diagonal. Per weighting the lower triangle of one (l, d) by (d, l) product, of
    (l, h) by (h, l) where p and q are ones, and of (l, n) by (n, l) a group for all together.
    """
    length = system.length
    found = [system.delta.new_zeros(length, length) for _ in weightings]
    if not found:
        return found
    for block in blocks(length):
        scores = scored(system, block)
        for K, (p, q) in zip(found, weightings, strict=True):
            block.of(K).copy_(_joined(scores, _crossed(system, block, p, q)))
    for K, (p, _) in zip(found, weightings, strict=True):
        K /= _count(system, p)
    return found


def _crossed(system: System, block: Block, p: Tensor | None, q: Tensor | None) -> Tensor:
    """(g, count, rows, size): sum over a group's channels of p q delta times the decay."""
    if block.diagonal:
        return _crossed_within(system, block, p, q)
    after, before = factors(system, block)
    left = weighted(system, after, None if p is None else block.queries(p))
    right = weighted(system, before, None if q is None else block.keys(q))
    return left @ right.mT


def _crossed_within(system: System, block: Block, p: Tensor | None, q: Tensor | None) -> Tensor:
    decays = decays_within(system, block)
    if p is not None and q is not None:
        decays.mul_(per_head(system, block.keys(p)) @ per_head(system, block.keys(q)).mT)
    count, heads, size, _ = decays.shape
    grouped = decays.view(count, system.groups, heads // system.groups, size, size)
    return grouped.sum(2).transpose(0, 1)


def _joined(scores: Tensor, crossed: Tensor) -> Tensor:
    """Sum over groups of the product (count, rows, size)."""
    return crossed[0] * scores[0] if len(scores) == 1 else (crossed * scores).sum(0)


def _count(system: System, weight: Tensor | None) -> int:
    """What K is the mean over: channels, or heads where they all weigh the same."""
    return system.heads if weight is None else weight.shape[1]


def attention_row(system: System, c: Tensor, r: Tensor) -> Tensor:
    """alpha[h, t, s] (l, h) for tokens that end at or before query t.

    c = C[t] (g, n); r = sum of A delta (h,) float64 over the tokens from their end up to t, zero
    where they end with t.
    """
    scores = torch.einsum("lgn,gn->lg", system.B, c)
    last = system.decay[-1] + r
    return system.since(last, slice(None)) * to_heads(system, scores)


def carried_state(system: System, rows: int, width: int) -> Tensor:
    """(rows, h, n, width) zeros: the state of a scan that has read nothing yet."""
    return system.A.new_zeros(rows, system.heads, system.B.shape[2], width)


def apply_attention(
    system: System, x: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y' (l, d), y'[t, d] = sum_s alpha[h(d), t, s] x[s, d], and sum_s alpha (l, h).

    By alpha itself inside chunks of tokens and a state between them; `state`, one row of
    `carried_state` p + 1 wide, carries a text on from the piece before. O(l d n) time.
    """
    _check_weights(system, x)
    length, heads = system.delta.shape
    values = torch.cat([x.reshape(length, heads, -1), x.new_ones(length, heads, 1)], dim=2)
    state = carried_state(system, 1, values.shape[2]) if state is None else state
    found = torch.empty_like(values)
    for tokens in chunks(length):
        part, v = system.at(tokens), values[tokens]
        size = len(v)
        inside = alpha_within(part, Block(0, 1, size, 0))[0] @ v.transpose(0, 1)
        after = part.until(torch.zeros_like(part.decay[0]), slice(None))
        carried = _read_state(part, part.C, state)[0] * after.T[..., None]
        found[tokens] = (inside + carried).transpose(0, 1)
        last = part.decay[-1]
        _keep(state, last, _write_state(part, part.B, v * part.since(last, slice(None))[..., None]))
    return found[..., :-1].reshape(length, -1), found[..., -1]


def weighted_rows(
    system: System,
    r: Tensor,
    p: Tensor | None = None,
    q: Tensor | None = None,
    state: Tensor | None = None,
) -> Tensor:
    """r K (k, l) for rows r (k, l), without K: chunks of tokens backwards, a state between them.

    `state`, k rows of `carried_state` as wide as a head's channels, or 1 where p and q are ones,
    carries a text on from the piece after this one. O(k l d n) time.
    """
    length, heads = system.delta.shape
    if r.ndim != 2 or r.shape[1] != length:
        raise ValueError(f"r must be (k, {length}), is {tuple(r.shape)}")
    p = system.delta.new_ones(length, heads) if p is None else p
    q = system.delta.new_ones(length, heads) if q is None else q
    _check_weights(system, p, q)
    state = carried_state(system, len(r), p.shape[1] // heads) if state is None else state
    out = torch.empty_like(r)
    for tokens in reversed(list(chunks(length))):
        part, rows = system.at(tokens), r[:, tokens]
        size = rows.shape[1]
        inside = attention_matrices(part, [(p[tokens], q[tokens])])[0]
        last = part.decay[-1]
        keys = q[tokens].reshape(size, heads, -1) * part.since(last, slice(None))[..., None]
        read = _read_state(part, part.B, state)
        carried = torch.einsum("khsp,shp->ks", read, keys)
        out[:, tokens] = rows @ inside + carried / p.shape[1]
        queries = p[tokens].reshape(size, heads, -1) * part.until(0 * last, slice(None))[..., None]
        added = [_write_state(part, part.C, row[:, None, None] * queries) for row in rows]
        _keep(state, last, torch.stack(added))
    return out


def _read_state(system: System, vectors: Tensor, state: Tensor) -> Tensor:
    """(k, h, l, width): each token's C or B (l, g, n) times the state (k, h, n, width)."""
    rows, heads, states, width = state.shape
    grouped = state.view(rows, system.groups, heads // system.groups, states, width)
    found = torch.matmul(vectors.transpose(0, 1)[:, None], grouped)
    return found.view(rows, heads, -1, width)


def _write_state(system: System, vectors: Tensor, values: Tensor) -> Tensor:
    """(h, n, width): sum over tokens of B or C (l, g, n) times values (l, h, width)."""
    length, heads, width = values.shape
    grouped = values.view(length, system.groups, -1).transpose(0, 1)
    found = vectors.permute(1, 2, 0) @ grouped
    of_heads = found.view(system.groups, -1, heads // system.groups, width).transpose(1, 2)
    return of_heads.reshape(heads, -1, width)


def _keep(state: Tensor, last: Tensor, added: Tensor) -> None:
    """Let the state (k, h, n, width) decay over a chunk and add what the chunk leaves."""
    state.mul_(last.exp().float()[:, None, None]).add_(added)


def _check_weights(system: System, *weights: Tensor) -> None:
    for weight in weights:
        if weight.ndim != 2 or len(weight) != system.length or weight.shape[1] % system.heads:
            raise ValueError(
                f"weights must be ({system.length}, channels of {system.heads} heads), are "
                f"{tuple(weight.shape)}"
            )
