"""`gradient_guided`: hidden attention times how much each of its entries moves the target."""

from schemas.result import Parameters
from workers.analyses.checks import row_sum_error
from workers.analyses.maps import LayerView, MethodMaps

PARAMETERS = Parameters(
    clamp="none", normalisation="none", channel_reduction="mean", token_reduction="column-sum"
)


def analyse(view: LayerView) -> MethodMaps:
    """Read a layer by gradient times attention.

    With g = d target / d y, d target / d alpha[d,t,s] = g[t,d] x[s,d], so no gradient passes
    through a matrix:

    matrix[t,s] = K[t,s] = mean_d g[t,d] x[s,d] alpha[d,t,s]; token_relevance[s] = sum_t K[t,s];
    neuron_activation[d] = sum_t g[t,d] y'[t,d];
    neuron_importance[d] = std of g[t,d] x[s,d] alpha[d,t,s] over the causal pairs.

    Sources: Chefer, Gur, Wolf (2012.09838); Ali, Zimerman, Wolf (2403.01590). Cost: one matrix,
    and scans linear in l. Raises ValueError where the layer's gradient was not traced.
    """
    gradient, values = view.mixer.channel_gradient(), view.mixer.values
    pulled = gradient * view.mixed
    matrix = view.gradient_attention
    return MethodMaps(
        parameters=PARAMETERS,
        query_positions=list(range(view.mixer.length)),
        matrix=matrix,
        token_relevance=matrix.sum(0),
        signed_relevance=None,
        neuron_activation=pulled.sum(0),
        neuron_importance=view.mixer.moments(gradient, values)[1],
        row_sum_error=row_sum_error(matrix, pulled.mean(1)),
    )
