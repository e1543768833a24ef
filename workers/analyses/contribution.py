"""`contribution`: the exact share of every token's input in the mixer's output."""

import torch

from schemas.result import Parameters
from workers.analyses.maps import ContributionRows, LayerView, MethodMaps


def parameters(rows: ContributionRows) -> Parameters:
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
    mixer, target = view.mixer, view.position
    at_target = mixer.contribution(target)
    queries = [target] if view.contribution_rows == "target" else list(range(mixer.length))
    rows = [at_target if query == target else mixer.contribution(query) for query in queries]
    effect = mixer.gated_gradient()[target] * mixer.gated()[target]
    return MethodMaps(
        parameters=parameters(view.contribution_rows),
        query_positions=queries,
        matrix=torch.stack([row.norm for row in rows]),
        token_relevance=at_target.norm,
        signed_relevance=at_target.signed,
        neuron_activation=effect,
        neuron_importance=effect.abs(),
        row_sum_error=max(row.error for row in rows),
        bias_relevance=at_target.bias_signed,
    )
