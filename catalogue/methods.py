"""What each method computes, by which formula, after whom, and at what cost.

The long form is a page each in docs/methods; the axes t, s, d are those of its README.
"""

from schemas.catalogue import MethodDescription
from schemas.names import DEFAULT_METHODS, NEEDS_GRADIENT, Method

_HIDDEN_ATTENTION = (
    "Ali, Zimerman and Wolf 2024, The Hidden Attention of Mamba Models, arXiv:2403.01590"
)
_UNIFIED = "Zimerman, Ali and Wolf 2024, A Unified Implicit Attention Formulation, arXiv:2405.16504"
_ROLLOUT = "Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, arXiv:2005.00928"
_GRADIENT = (
    "Chefer, Gur and Wolf 2020, Transformer Interpretability Beyond Attention, arXiv:2012.09838"
)
_NORMS = "Kobayashi et al. 2020, Attention is Not Only a Weight, arXiv:2004.10102"

_TOLD = {
    Method.ATTENTION_WEIGHTED: (
        "The hidden attention itself, averaged over channels",
        "M[t,s] = mean_d alpha[d,t,s]; relevance[s] = M[tau,s]",
        [_HIDDEN_ATTENTION],
        "One matrix product of L^2 d_inner d_state operations a layer; O(L^2) memory",
    ),
    Method.GRADIENT_GUIDED: (
        "Hidden attention times the gradient of the target with respect to it",
        "M[t,s] = mean_d g[t,d] x[s,d] alpha[d,t,s], g = d target / d y; "
        "relevance[s] = sum_t M[t,s]",
        [_HIDDEN_ATTENTION, _GRADIENT],
        "As attention_weighted, and one backward pass for all layers together",
    ),
    Method.ROLLOUT: (
        "Hidden attention multiplied through all mixers below, each with its residual",
        "R_l = rownorm(I + M_l+) R_{l-1}, R_{-1} = I; relevance[s] = R_l[tau,s]",
        [_ROLLOUT, _HIDDEN_ATTENTION],
        "A matrix of every mixer up to the last layer asked for, and an L^3 product each",
    ),
    Method.CONTRIBUTION: (
        "The exact share of each token in what the mixer writes",
        "M[t,s] = |T_t(u_s)|, sum_s T_t(u_s) + biases = the mixer's output; "
        "relevance[s] = M[tau,s]; signed: <T_tau(u_s), d target / d o_tau>",
        [_UNIFIED, _NORMS],
        "One reverse scan a layer for the target's row, O(L d_inner d_state); "
        "all rows: L times that",
    ),
}


def methods() -> list[MethodDescription]:
    """Every method that a request may name."""
    return [
        MethodDescription(
            name=method,
            description=description,
            formula=formula,
            citations=citations,
            cost=cost,
            needs_gradient=method in NEEDS_GRADIENT,
            default=method in DEFAULT_METHODS,
        )
        for method, (description, formula, citations, cost) in _TOLD.items()
    ]
