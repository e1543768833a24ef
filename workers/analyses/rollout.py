"""`rollout`: how attention composes through the layers, the residual stream an identity at each."""

from functools import partial

import torch
from torch import Tensor

from schemas.names import Method
from schemas.problem import ProblemError, ProblemType
from schemas.result import Parameters
from schemas.sections import Rows
from workers.analyses.checks import Checks
from workers.analyses.maps import LayerView, MethodMaps, Rollout
from workers.mixers.protocol import Weighting

# Without the clamp a row's weights may cancel; dividing by what is left of them below this share
# would multiply float32's rounding a thousandfold.
_LEAST_SUM = 1e-3


def parameters(clamp: bool, rows: Rows) -> Parameters:
    """The choices of `rollout`, with or without the clamp."""
    return Parameters(
        clamp="negative-to-zero" if clamp else "none",
        normalisation="rows",
        channel_reduction="mean",
        token_reduction="target-row",
        rows=rows,
    )


def advance(view: LayerView) -> Rollout:
    """R_l = Ahat_l R_{l-1} with Ahat = rownorm(I + Abar+), R_{-1} = I; Abar unclamped on request.

    Must be called for every mixer layer in ascending order, listed or not. Shapes: (l, l).
    Cost: Abar, and one l x l product. Without the clamp it is checked that no row of I + Abar sums
    to nearly nothing; with it every sum is at least 1.

    Source: Abnar, Zuidema (2005.00928); for hidden attention Ali, Zimerman, Wolf (2403.01590).
    """
    attention = view.matrix(Weighting.PLAIN)
    clamp = view.plan.rollout_clamp
    hat = attention.matrix.clamp(min=0) if clamp else attention.matrix.clone()
    hat.diagonal().add_(1)
    sums = hat.sum(1, keepdim=True)
    if not clamp:
        check_sums(view.checks, sums.squeeze(1), hat.abs().sum(1))
    hat /= sums
    if view.below is None:
        return Rollout(hat, attention.row_sum_error)
    worst = torch.maximum(view.below.row_sum_error, attention.row_sum_error)
    return Rollout(hat @ view.below.matrix, worst)


def analyse(view: LayerView, rolled: Rollout) -> MethodMaps:
    """Read a layer by what reaches it through all layers up to it.

    matrix = R_l; token_relevance = R_l[tau,:]; with v[t,d] = sum_s R_l[t,s] x[s,d],
    neuron_activation[d] = mean_t v[t,d] and neuron_importance[d] = std_t v[t,d].
    row_sum_error is the largest of the mean attentions multiplied on the way.

    Cost: one (l, l) by (l, d) product.
    """
    carried = view.mixer.gather(rolled.matrix)
    return MethodMaps(
        parameters=parameters(view.plan.rollout_clamp, view.plan.rows[Method.ROLLOUT]),
        query_positions=list(range(view.mixer.length)),
        matrix=rolled.matrix,
        token_relevance=rolled.matrix[view.plan.position],
        signed_relevance=None,
        neuron_activation=carried.mean(0),
        neuron_importance=carried.std(0, correction=0),
        row_sum_error=rolled.row_sum_error,
    )


def check_sums(checks: Checks, sums: Tensor, sizes: Tensor) -> None:
    """Have it judged that no row's sum is nearly nothing beside its size (l,)."""
    share = (sums.abs() / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)).min()
    checks.add(share, partial(_require_share, checks.layer))


def _require_share(layer: int, share: float) -> None:
    if not share >= _LEAST_SUM:
        raise ProblemError(
            ProblemType.NOT_FINITE,
            f"Layer {layer}: without its clamp `rollout` divides by row sums, and one of them has "
            f"cancelled to {share:.1e} of its weights. Set "
            "`attention.rollout_clamp` to `true`, or leave `rollout` out.",
        )
