"""`attention_weighted`: the mean hidden attention over channels, as it is."""

from schemas.names import Method
from schemas.result import Parameters
from schemas.sections import Rows
from workers.analyses.maps import LayerView, MethodMaps
from workers.mixers.protocol import Weighting


def parameters(rows: Rows) -> Parameters:
    """The choices of `attention_weighted`."""
    return Parameters(
        clamp="none",
        normalisation="none",
        channel_reduction="mean",
        token_reduction="target-row",
        rows=rows,
    )


def analyse(view: LayerView) -> MethodMaps:
    """Read a layer by its mean hidden attention.

    matrix[t,s] = Abar[t,s] = mean_d alpha[d,t,s]; token_relevance = Abar[tau,:];
    neuron_activation[d] = mean_t y'[t,d] with y' = sum_s alpha x;
    neuron_importance[d] = std of alpha[d,t,s] over the causal pairs.

    Source: Ali, Zimerman, Wolf (2403.01590). Cost: Abar, and scans linear in l for the rest; linear
    in l throughout for the target's row.
    """
    attention = view.rows(Method.ATTENTION_WEIGHTED, Weighting.PLAIN)
    return MethodMaps(
        parameters=parameters(view.plan.rows[Method.ATTENTION_WEIGHTED]),
        query_positions=attention.queries,
        matrix=attention.matrix,
        token_relevance=attention.at(view.plan.position),
        signed_relevance=None,
        neuron_activation=view.summary.mean_mixed,
        neuron_importance=view.summary.spreads[Weighting.PLAIN],
        row_sum_error=attention.row_sum_error,
    )
