"""`rollout` for the target's row alone: from each reported layer down, no product of matrices.

    e_tau^T R_l = (... ((e_tau^T Ahat_l) Ahat_{l-1}) ...) Ahat_0,   Ahat = rownorm(I + Abar+)

One row times Ahat is r / sums + (r / sums) Abar+. Without the clamp the row sums are a scan run on
ones and the second term a reverse scan, so no layer's matrix is needed: time linear in the tokens,
memory of a few rows. With it Abar+ depends on every entry of Abar, and each layer's matrix is
computed, used and dropped. Axes as in `maps`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.analyses.checks import Checks, sums_error
from workers.analyses.maps import LayerView, MethodMaps, ReadingPlan
from workers.analyses.rollout import check_sums, parameters
from workers.kernels import pulse
from workers.mixers.protocol import MixerTrace, Summary, Weighting

# Rows of a clamped matrix that are widened at once.
_BLOCK = 256


@dataclass
class Descent:
    """Rows of the rollouts of the reported layers met so far, carried down together.

    rows: for each such layer (2, l), the target's row of what its rollout is down to here, and the
    mean of all its rows. errors: the worst self-check on each one's way.
    """

    plan: ReadingPlan
    rows: dict[int, Tensor] = field(default_factory=dict)
    errors: dict[int, Tensor] = field(default_factory=dict)

    def enter(self, checks: Checks, summary: Summary) -> Tensor | None:
        """Start this layer's rows if it is reported; without the clamp, the shares to multiply.

        Without the clamp it is checked that no row of I + Abar sums to nearly nothing beside
        1 + |its row sum of Abar|.
        """
        layer = checks.layer
        attention = summary.row_sums[Weighting.PLAIN]
        if layer in self.plan.layers:
            start = torch.zeros_like(attention).expand(2, -1).clone()
            start[0, self.plan.position] = 1.0
            start[1] = 1.0 / len(attention)
            self.rows[layer], self.errors[layer] = start, _no_error(start)
        if self.plan.rollout_clamp or not self.rows:
            return None
        sums = 1 + attention
        check_sums(checks, sums, 1 + attention.abs())
        return self._stacked() / sums

    def through(self, view: LayerView) -> Tensor:
        """Carry every row through the layer; its self-check.

        Ahat's rows sum to 1, so a row's sum must not change: its own sums come from a pass forwards
        or the matrix, what they divide from a pass backwards or the matrix. With the clamp, the
        row sums of the matrix before it are checked too.
        """
        if not self.rows:
            return _no_error(view.summary.mean_mixed)
        before = self._stacked()
        matrix_error = _no_error(before)
        if view.shares is not None:
            after = view.shares + view.attended()
        else:
            attention = view.matrix(Weighting.PLAIN)
            matrix_error = attention.row_sum_error
            after = _through_clamped(before, attention.matrix)
        error = torch.maximum(matrix_error, sums_error(after, before))
        for index, layer in enumerate(self.rows):
            self.rows[layer] = after[2 * index : 2 * index + 2]
            self.errors[layer] = torch.maximum(self.errors[layer], error)
        return error

    def maps(self, layer: int, mixer: MixerTrace) -> MethodMaps:
        """One reported layer's maps, once its rows have come through the lowest mixer layer.

        neuron_activation[d] = sum_s mean_t R_l[t,s] x[s,d]. neuron_importance, a standard deviation
        over t, would need every row and is None.
        """
        target, mean = self.rows[layer]
        return MethodMaps(
            parameters=parameters(self.plan.rollout_clamp, "target"),
            query_positions=[self.plan.position],
            matrix=target[None],
            token_relevance=target,
            signed_relevance=None,
            neuron_activation=mixer.gather(mean[None])[0],
            neuron_importance=None,
            row_sum_error=self.errors[layer],
        )

    def _stacked(self) -> Tensor:
        return torch.cat(list(self.rows.values()))


def _no_error(like: Tensor) -> Tensor:
    return like.new_zeros((), dtype=torch.float64)


def _through_clamped(rows: Tensor, attention: Tensor) -> Tensor:
    """rows (k, l) times rownorm(I + Abar+), a block of Abar's rows at a time."""
    after = torch.zeros_like(rows)
    for start in range(0, len(attention), _BLOCK):
        at = slice(start, start + _BLOCK)
        pulse.beat()
        positive = attention[at].clamp(min=0)
        share = rows[:, at] / (1 + positive.sum(1))
        after[:, at] += share
        after += share @ positive
    return after
