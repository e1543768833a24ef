"""Slow float64 twin of the `contribution` method: the exact decomposition of a Mamba-1 mixer."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def hidden_attention_row(delta: Array, A: Array, B: Array, C: Array, query: int) -> Array:
    """alpha[d,query,s] for s <= query, term by term from its definition.

    alpha[d,t,s] = Delta[s,d] sum_n C[t,n] B[s,n] exp(A[d,n] (S[t,d] - S[s,d])), S_t = sum_{k<=t}
    Delta_k. Source: Ali, Zimerman, Wolf (2403.01590). Shapes: delta (l,d); A (d,n); B, C (l,n) ->
    (d, query + 1).
    """
    total = np.cumsum(delta, axis=0)
    row = np.empty((delta.shape[1], query + 1))
    for s in range(query + 1):
        decay = np.exp(A * (total[query] - total[s])[:, None])
        row[:, s] = delta[s] * (decay @ (C[query] * B[s]))
    return row


def contribution_vectors(
    *,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    gate: Array,
    conv_input: Array,
    conv_output: Array,
    conv_weight: Array,
    out_weight: Array,
    query: int,
) -> Array:
    """T_query(u_s) for every s, shape (l, m); zero after the query.

    T_t(u_s) = W_out [silu(z_t) * sum_k (alpha[:,t,k] + D 1[t=k]) * sigma(c_k) * w_{k-s} * u_s]:
    exact because silu(c) = c sigma(c) and c is linear in u. Summed over s, with the terms of the
    convolution's and the projection's biases, it is the mixer's output at the query.

    Shapes: delta, gate, conv_input u, conv_output c (l,d); A (d,n); B, C (l,n); D (d,);
    conv_weight (d,k), the last column for the token itself; out_weight (m,d).
    """
    length, width = conv_input.shape[0], conv_weight.shape[1]
    reads = hidden_attention_row(delta, A, B, C, query).T
    reads[query] += D
    reads *= sigmoid(conv_output[: query + 1])
    neurons = np.zeros_like(conv_input)
    for s in range(query + 1):
        for k in range(s, min(s + width, query + 1)):
            neurons[s] += reads[k] * conv_weight[:, width - 1 - (k - s)] * conv_input[s]
    neurons *= gate[query] * sigmoid(gate[query])
    vectors = neurons @ out_weight.T
    assert vectors.shape == (length, out_weight.shape[0])
    return vectors


def sigmoid(v: Array) -> Array:
    """1 / (1 + e^-v)."""
    result: Array = 1.0 / (1.0 + np.exp(-v))
    return result
