"""`gradient_guided`: hidden attention times how much each of its entries moves the target."""

import torch
from torch import Tensor

from schemas.names import Method
from schemas.result import Parameters
from schemas.sections import Rows
from workers.analyses.maps import LayerView, MethodMaps
from workers.mixers.protocol import Weighting


def parameters(rows: Rows) -> Parameters:
    """The choices of `gradient_guided`."""
    return Parameters(
        clamp="none",
        normalisation="none",
        channel_reduction="mean",
        token_reduction="column-sum",
        rows=rows,
    )


def analyse(view: LayerView) -> MethodMaps:
    """Read a layer by gradient times attention.

    With g = d target / d y, d target / d alpha[d,t,s] = g[t,d] x[s,d], so no gradient passes
    through a matrix:

    matrix[t,s] = K[t,s] = mean_d g[t,d] x[s,d] alpha[d,t,s]; token_relevance[s] = sum_t K[t,s], of
    every row whichever are reported; neuron_activation[d] = sum_t g[t,d] y'[t,d];
    neuron_importance[d] = std of g[t,d] x[s,d] alpha[d,t,s] over the causal pairs.

    Sources: Chefer, Gur, Wolf (2012.09838); Ali, Zimerman, Wolf (2403.01590). Cost: one matrix,
    and scans linear in l; linear in l throughout for the target's row. Raises ValueError where the
    layer's gradient was not traced.
    """
    pulled = view.summary.pulled
    if pulled is None:
        raise ValueError("the layer's summary was made without its gradient")
    attention = view.rows(Method.GRADIENT_GUIDED, Weighting.GRADIENT)
    relevance, error = _column_sums(view, attention.matrix)
    return MethodMaps(
        parameters=parameters(view.plan.rows[Method.GRADIENT_GUIDED]),
        query_positions=attention.queries,
        matrix=attention.matrix,
        token_relevance=relevance,
        signed_relevance=None,
        neuron_activation=pulled,
        neuron_importance=view.summary.spreads[Weighting.GRADIENT],
        row_sum_error=torch.maximum(attention.row_sum_error, error),
    )


def _column_sums(view: LayerView, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Over all rows, and what their own check says."""
    if view.plan.rows[Method.GRADIENT_GUIDED] == "target":
        return view.column_sums()
    return matrix.sum(0), matrix.new_zeros((), dtype=torch.float64)
