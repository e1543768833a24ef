"""`attention_knowledge_extraction`: summary measures of one matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Numbers widened to float64 at once: few enough to stay in the cache and on one thread.
_BLOCK = 1 << 14
# A row whose largest entry is below this share of the matrix's own adds nothing to it in float32.
# Its proportions are rounding and underflow, and would count as much as any other row's.
_RESOLUTION = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Knowledge:
    """The measures of one matrix; see `extract`."""

    attention_entropy: float
    attention_entropy_normalised: float
    attention_diversity: float
    mean_attention: float
    max_attention: float
    min_attention: float
    effective_keys: float
    first_token_mass: float
    mean_distance: float
    mean_distance_characters: float


def extract(matrix: Tensor, query_positions: list[int], places: Sequence[float]) -> Knowledge:
    """Measure how a matrix (rows, l) spreads its weight; row i belongs to query_positions[i].

    W is |matrix| with every row divided by its sum; a row t has the keys 0..t. Means over rows
    of: entropy H = -sum_s W log W in nats; H / log(t + 1), which is 0 for a row of one key; std
    of W along the row's keys; exp(H); W[t,0]; sum_s W[t,s] (t - s), and the same between
    `places` (l,) of tokens. Mean, largest and smallest entry are those of the signed matrix
    over its causal pairs. A row without an entry of at least 2^-23 of the matrix's largest has
    no W and is left out of the means; where every row is, they are 0.

    Cost O(rows l), in float64, a block of rows at a time.
    """
    queries = torch.tensor(query_positions, device=matrix.device)
    where = torch.tensor(places, dtype=torch.float64, device=matrix.device)
    height = max(1, _BLOCK // matrix.shape[1])
    blocks = zip(torch.split(matrix, height), torch.split(queries, height), strict=True)
    least = _RESOLUTION * max(float(matrix.amax()), -float(matrix.amin()))
    parts = [_block(rows.to(torch.float64), at, where, least) for rows, at in blocks]
    read_rows = sum(part.rows for part in parts)
    pairs = sum(part.pairs for part in parts)
    means = torch.stack([part.row_totals for part in parts]).sum(0) / max(read_rows, 1)
    of_rows = dict(zip(_ROW_MEASURES, means.tolist(), strict=True))
    return Knowledge(
        mean_attention=sum(part.total for part in parts) / pairs,
        max_attention=max(part.largest for part in parts),
        min_attention=min(part.smallest for part in parts),
        **of_rows,
    )


@dataclass(frozen=True)
class _Block:
    """Sums over some rows: how many have weights, their measures, and the entries' own."""

    rows: int
    row_totals: Tensor
    pairs: int
    total: float
    largest: float
    smallest: float


_RAW_MEASURES = ("mean_attention", "max_attention", "min_attention")
_ROW_MEASURES = [field.name for field in fields(Knowledge) if field.name not in _RAW_MEASURES]


def _block(rows: Tensor, queries: Tensor, places: Tensor, least: float) -> _Block:
    keys = torch.arange(rows.shape[1], device=rows.device)
    causal = keys <= queries[:, None]
    measures = _row_measures(rows, queries, keys, places, least)
    return _Block(
        rows=measures.shape[1],
        row_totals=measures.sum(1),
        pairs=int(causal.sum()),
        total=float(rows.sum()),
        largest=float(rows.masked_fill(~causal, -torch.inf).max()),
        smallest=float(rows.masked_fill(~causal, torch.inf).min()),
    )


def _row_measures(
    rows: Tensor, queries: Tensor, keys: Tensor, places: Tensor, least: float
) -> Tensor:
    """(7, rows whose largest entry is `least` or more), in the order of `_ROW_MEASURES`."""
    size = rows.abs()
    largest = size.amax(1)
    alive = (largest > 0) & (largest >= least)
    # Divided by the largest first, so that rows of denormals keep their proportions.
    size = size / torch.where(alive, largest, 1.0)[:, None]
    weight = size / torch.where(alive, size.sum(1), 1.0)[:, None]
    count = (queries + 1).to(weight.dtype)
    entropy = -torch.xlogy(weight, weight).sum(1)
    spread = (weight.square().sum(1) / count - count.reciprocal().square()).clamp(min=0).sqrt()
    distance = (weight * (queries[:, None] - keys)).sum(1)
    characters = (weight * (places[queries][:, None] - places)).sum(1)
    logs = count.log()
    normalised = torch.where(count > 1, entropy / logs.clamp(min=logs.new_tensor(0.5)), 0.0)
    measures = [entropy, normalised, spread, entropy.exp(), weight[:, 0], distance, characters]
    return torch.stack(measures)[:, alive]
