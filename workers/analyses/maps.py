"""What every method returns, and what it reads.

Axes: t query, s key, d channel, l tokens of one text; tau is the target's position.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from schemas.names import Method
from schemas.result import Parameters
from schemas.sections import AttentionSection, Rows
from workers.analyses.checks import Checks, row_sum_error
from workers.mixers.protocol import MixerTrace, Read, Summary, Weighting


@dataclass(frozen=True)
class MethodMaps:
    """One layer of one text under one method; every tensor signed unless the method says not.

    matrix (rows, l): row i belongs to query_positions[i] and is zero for s after it.
    token_relevance (l,). signed_relevance (l,) and bias_relevance, what belongs to no token, or
    None where the method has none.
    neuron_activation (d,); neuron_importance (d,), or None where the rows asked for do not tell.
    row_sum_error: self-check of the matrix against what its rows must add up to. This and
    bias_relevance are tensors of no axes.
    """

    parameters: Parameters
    query_positions: list[int]
    matrix: Tensor
    token_relevance: Tensor
    signed_relevance: Tensor | None
    neuron_activation: Tensor
    neuron_importance: Tensor | None
    row_sum_error: Tensor
    bias_relevance: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What the method defines, by the names that `tensors.safetensors` uses."""
        found = {
            "matrix": self.matrix,
            "token_relevance": self.token_relevance,
            "signed_relevance": self.signed_relevance,
            "neuron_activation": self.neuron_activation,
            "neuron_importance": self.neuron_importance,
        }
        return {name: tensor for name, tensor in found.items() if tensor is not None}


# Of a request that names none.
_USUAL_ROWS = {method: AttentionSection().rows_of(method) for method in Method}


@dataclass(frozen=True)
class ReadingPlan:
    """How one text is to be read: `layers` are reported, `tolerance` is the self-checks'.

    `attributed` are the layers whose neurons' attribution is wanted, reported or not.
    """

    layers: frozenset[int]
    methods: Sequence[Method]
    position: int
    tolerance: float
    rows: Mapping[Method, Rows] = field(default_factory=lambda: dict(_USUAL_ROWS))
    rollout_clamp: bool = True
    attributed: frozenset[int] = frozenset()

    def reads(self, method: Method, rows: Rows) -> bool:
        """Whether the method is asked for, with these rows."""
        return method in self.methods and self.rows[method] == rows


@dataclass(frozen=True)
class CheckedRows:
    """Rows (k, l) of a weighting's matrix, those of `queries`, and their self-check."""

    matrix: Tensor
    queries: list[int]
    row_sum_error: Tensor

    def at(self, query: int) -> Tensor:
        """(l,): the row of one query."""
        return self.matrix[self.queries.index(query)]


@dataclass(frozen=True)
class Rollout:
    """R_l (l, l), attention through all mixer layers up to one, and the worst check on the way."""

    matrix: Tensor
    row_sum_error: Tensor


@dataclass(frozen=True)
class LayerView:
    """One layer as the methods see it; what several of them need is computed once.

    `methods` are those that read this layer; `checks` gathers what is to be judged of it. `below`
    is the rollout of the mixer layers below this one, None at the lowest. `shares` (k, l) are rows
    that the rollout multiplies the mean attention by from the left, where it needs no more of it.
    """

    mixer: MixerTrace
    summary: Summary
    plan: ReadingPlan
    methods: Sequence[Method]
    checks: Checks
    below: Rollout | None = None
    shares: Tensor | None = None

    def rows(self, method: Method, weighting: Weighting) -> CheckedRows:
        """The rows that the plan wants of a method: every query's, or the target's."""
        if self.plan.rows[method] == "all":
            return self.matrix(weighting)
        if weighting in self._whole:
            every = self.matrix(weighting)
            row = every.at(self.plan.position)[None]
            return CheckedRows(row, [self.plan.position], every.row_sum_error)
        row, at = self._read[weighting][:1], self.plan.position
        return CheckedRows(row, [at], self._error(weighting, row, slice(at, at + 1)))

    def matrix(self, weighting: Weighting) -> CheckedRows:
        """K (l, l), its row sums checked against those that the summary found."""
        matrix = self._matrices[weighting]
        every = slice(self.mixer.length)
        return CheckedRows(
            matrix, list(range(self.mixer.length)), self._error(weighting, matrix, every)
        )

    def column_sums(self) -> tuple[Tensor, Tensor]:
        """sum_t K[t, s] (l,) of GRADIENT, without K, and how far their sum is from the rows'."""
        sums = self._read[Weighting.GRADIENT][1]
        # Both vectors add up the same matrix, so their totals must agree.
        found = self.summary
        rows, added = found.row_sums[Weighting.GRADIENT], found.added[Weighting.GRADIENT]
        return sums, row_sum_error(sums[None], rows.sum()[None], added.sum()[None])

    def _error(self, weighting: Weighting, rows: Tensor, at: slice) -> Tensor:
        """How far the rows at these queries are from the sums that the summary found."""
        found = self.summary
        return row_sum_error(rows, found.row_sums[weighting][at], found.added[weighting][at])

    def attended(self) -> Tensor:
        """(k, l): `shares` times the mean hidden attention."""
        if self.shares is None:
            raise ValueError("no rows were given to be multiplied")
        return self._read[Weighting.PLAIN][-len(self.shares) :]

    @cached_property
    def _whole(self) -> list[Weighting]:
        """The weightings whose matrix is needed."""
        rolls = Method.ROLLOUT in self.methods and self.shares is None
        plain = rolls or self._wants(Method.ATTENTION_WEIGHTED, "all")
        pulled = self._wants(Method.GRADIENT_GUIDED, "all")
        return [Weighting.PLAIN] * plain + [Weighting.GRADIENT] * pulled

    @cached_property
    def _matrices(self) -> dict[Weighting, Tensor]:
        return dict(zip(self._whole, self.mixer.matrices(self._whole), strict=True))

    @cached_property
    def _read(self) -> dict[Weighting, Tensor]:
        """All that is to be read without a matrix, in one pass."""
        like = self.summary.row_sums[Weighting.PLAIN]
        target = torch.zeros_like(like)
        target[self.plan.position] = 1.0
        plain, stop = [], self.plan.position + 1
        if self._wants(Method.ATTENTION_WEIGHTED, "target") and Weighting.PLAIN not in self._whole:
            plain.append(target[None])
        if self.shares is not None:
            plain.append(self.shares)
            stop = self.mixer.length
        reads = [Read(torch.cat(plain), Weighting.PLAIN)] if plain else []
        if self._wants(Method.GRADIENT_GUIDED, "target"):
            rows = torch.stack([target, torch.ones_like(target)])
            reads.append(Read(rows, Weighting.GRADIENT))
            stop = self.mixer.length
        found = self.mixer.read(reads, stop)
        return {read.weighting: rows for read, rows in zip(reads, found, strict=True)}

    def _wants(self, method: Method, rows: Rows) -> bool:
        return method in self.methods and self.plan.rows[method] == rows


Analysis = Callable[[LayerView], MethodMaps]
"""A method: a function of one layer's view."""
