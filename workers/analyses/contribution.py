"""`contribution`: the exact share of every token's input in the mixer's output."""

import torch

from schemas.names import Method
from schemas.result import Parameters
from schemas.sections import Rows
from workers.analyses.maps import LayerView, MethodMaps
from workers.kernels import pulse


def parameters(rows: Rows) -> Parameters:
    """The choices of `contribution`, for the target's row or all rows."""
    return Parameters(
        clamp="none",
        normalisation="none",
        channel_reduction="norm",
        token_reduction="target-row",
        rows=rows,
    )


def analyse(view: LayerView) -> MethodMaps:
    """Read a layer by the exact additive decomposition of its output.

    matrix[t,s] = |T_t(u_s)|, for the target's row or all rows; token_relevance = |T_tau(u_s)|;
    signed_relevance[s] = <T_tau(u_s), d target / d o_tau>;
    neuron_activation[d] = (W_out^T d target / d o_tau)[d] * gated[tau,d];
    neuron_importance[d] = its absolute value. row_sum_error: the worst row's distance between
    the sum of all its parts, biases included, and the model's own output.

    Sources: Zimerman, Ali, Wolf (2405.16504), made exact; Kobayashi et al. (2004.10102). Cost:
    linear in l a row. Raises ValueError where the layer's gradient was not traced.
    """
    mixer, target = view.mixer, view.plan.position
    chosen = view.plan.rows[Method.CONTRIBUTION]
    queries = [target] if chosen == "target" else list(range(mixer.length))
    rows = []
    for row in mixer.contributions(queries):
        pulse.beat()
        rows.append(row)
    at_target = rows[queries.index(target)]
    return MethodMaps(
        parameters=parameters(chosen),
        query_positions=queries,
        matrix=torch.stack([row.norm for row in rows]),
        token_relevance=at_target.norm,
        signed_relevance=at_target.signed,
        neuron_activation=at_target.effect,
        neuron_importance=at_target.effect.abs(),
        row_sum_error=torch.stack([row.error for row in rows]).max(),
        bias_relevance=at_target.bias_signed,
    )
