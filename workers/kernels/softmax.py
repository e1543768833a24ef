"""Softmax attention of one text, a block of queries at a time: never all heads' (l, l) at once.

    alpha[h, t, s] = exp(score[h, t, s] - m) / (sum_s exp(score[h, t, s] - m) + exp(sink[h] - m)),
    score = cap tanh(scaling q_t . k_s / cap), or scaling q_t . k_s without a cap, for s <= t in
    reach

with queries and keys as the model scores them, positions and norms already in them. h heads, of
which several may share a key and a value (g of these, h a multiple of g); p channels of a head's
value, d = h p, heads side by side. All computes in float32 without a graph. Slow twin:
tests/reference/softmax.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schemas import pieces

Weights = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Heads:
    """What makes alpha: queries (h, l, e), keys (g, l, e), values (g, l, p).

    reach (l, l): true where a query reads a key, or None for all up to its own; cap and sinks (h,)
    or None.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float
    reach: Tensor | None = None
    cap: float | None = None
    sinks: Tensor | None = None

    def __post_init__(self) -> None:
        (h, length, e), (g, keys, _) = self.queries.shape, self.keys.shape
        if self.keys.shape != (g, length, e) or self.values.shape[:2] != (g, keys) or h % g:
            shapes = [tuple(v.shape) for v in (self.queries, self.keys, self.values)]
            raise ValueError(f"queries, keys and values do not go together: {shapes}")

    @property
    def length(self) -> int:
        """l."""
        return self.queries.shape[1]

    @property
    def count(self) -> int:
        """h."""
        return len(self.queries)

    @property
    def channels(self) -> int:
        """d."""
        return self.count * self.values.shape[2]

    def x(self) -> Tensor:
        """(l, d): what every channel reads, shared values repeated."""
        wide = self.values.repeat_interleave(self.count // len(self.values), 0)
        return wide.transpose(0, 1).reshape(self.length, -1)

    def alpha(self, queries: slice) -> Tensor:
        """(h, rows, stop) of the queries from start to stop; keys at stop or after are not read."""
        start, stop = queries.start, queries.stop
        shared, q = len(self.keys), self.queries[:, start:stop]
        grouped = q.reshape(shared, -1, q.shape[2])
        scores = (grouped @ self.keys[:, :stop].mT).view(self.count, stop - start, stop)
        scores.mul_(self.scaling)
        if self.cap is not None:
            scores.div_(self.cap).tanh_().mul_(self.cap)
        scores.masked_fill_(~self._reach(start, stop), -torch.inf)
        if self.sinks is None:
            return scores.softmax(-1)
        sinks = self.sinks[:, None, None].expand(-1, stop - start, 1)
        return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]

    def _reach(self, start: int, stop: int) -> Tensor:
        """(rows, stop), true where a query reads a key."""
        if self.reach is not None:
            return self.reach[start:stop, :stop]
        queries = torch.arange(start, stop, device=self.queries.device)[:, None]
        return torch.arange(stop, device=queries.device) <= queries

    def blocks(self, stop: int) -> Iterator[slice]:
        """The queries before `stop`, few enough at a time."""
        rows = max(1, pieces.ATTENTION // (self.count * stop))
        for start in range(0, stop, rows):
            yield slice(start, min(start + rows, stop))

    def per_head(self, values: Tensor) -> Tensor:
        """(h, l, p) of (l, d)."""
        return values.view(len(values), self.count, -1).transpose(0, 1)


def attention_matrices(heads: Heads, weightings: Sequence[Weights]) -> list[Tensor]:
    """K (l, l) for each (p, q): K[t, s] = (1/d) sum_d p[t, d] q[s, d] alpha[h(d), t, s].

    Cost: alpha, O(l^2 h e), and as much again for each pair of weights.
    """
    found = [heads.queries.new_zeros(heads.length, heads.length) for _ in weightings]
    for rows in heads.blocks(heads.length) if found else ():
        alpha = heads.alpha(rows)
        for K, pair in zip(found, weightings, strict=True):
            K[rows, : rows.stop] = _mean(heads, alpha, rows, *pair)
    return found


def weighted_rows(heads: Heads, r: Tensor, weights: Weights, stop: int) -> Tensor:
    """r K (k, l) for rows r (k, l), which are zero from `stop` on; K is never held whole."""
    found = torch.zeros_like(r)
    for rows in heads.blocks(stop):
        if bool(r[:, rows].any()):
            found[:, : rows.stop] += r[:, rows] @ _mean(heads, heads.alpha(rows), rows, *weights)
    return found


def _mean(heads: Heads, alpha: Tensor, rows: slice, p: Tensor | None, q: Tensor | None) -> Tensor:
    """(rows, stop): the mean over channels of p q alpha."""
    if p is None or q is None:
        return alpha.mean(0)
    crossed = heads.per_head(p[rows]) @ heads.per_head(q[: rows.stop]).mT
    return crossed.mul_(alpha).sum(0).div_(heads.channels)
