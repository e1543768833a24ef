"""`attention_weighted`: the mean hidden attention over channels, as it is."""

from schemas.result import Parameters
from workers.analyses.maps import LayerView, MethodMaps

PARAMETERS = Parameters(
    clamp="none", normalisation="none", channel_reduction="mean", token_reduction="target-row"
)


def analyse(view: LayerView) -> MethodMaps:
    """Read a layer by its mean hidden attention.

    matrix[t,s] = Abar[t,s] = mean_d alpha[d,t,s]; token_relevance = Abar[tau,:];
    neuron_activation[d] = mean_t y'[t,d] with y' = sum_s alpha x;
    neuron_importance[d] = std of alpha[d,t,s] over the causal pairs.

    Source: Ali, Zimerman, Wolf (2403.01590). Cost: Abar, and scans linear in l for the rest.
    """
    attention = view.mean_attention
    return MethodMaps(
        parameters=PARAMETERS,
        query_positions=list(range(view.mixer.length)),
        matrix=attention.matrix,
        token_relevance=attention.matrix[view.position],
        signed_relevance=None,
        neuron_activation=view.mixed.mean(0),
        neuron_importance=view.mixer.moments()[1],
        row_sum_error=attention.row_sum_error,
    )
