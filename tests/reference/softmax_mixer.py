"""Slow float64 twin of causal softmax attention: its output, its alpha, its decomposition."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionRun:
    """One mixer on one text.

    q, k, v (h, l, p), their biases included; alpha (h, t, s), zero for s > t; out_weight (m, h p),
    head after head; out_bias (m,); output (l, m).
    """

    q: Array
    k: Array
    v: Array
    alpha: Array
    out_weight: Array
    out_bias: Array
    output: Array

    def contributions(self, query: int) -> Array:
        """T_query(s) = sum_h alpha[h,query,s] W_O^h v_s^h for every s: (l, m).

        Exact with alpha frozen at its value; zero after the query.
        """
        heads, length, width = self.v.shape
        vectors = np.zeros((length, len(self.out_weight)))
        for s in range(query + 1):
            for h in range(heads):
                of_head = self.out_weight[:, h * width : (h + 1) * width]
                vectors[s] += self.alpha[h, query, s] * (of_head @ self.v[h, s])
        return vectors

    def bias_part(self, query: int) -> Array:
        """(m,): the part of output[query] that no token carries, the output's bias."""
        assert query < self.v.shape[1]
        return self.out_bias


def alpha(q: Array, k: Array, scaling: float) -> Array:
    """alpha[h,t,s] = softmax over s <= t of scaling q_t . k_s; q, k (h, l, p) -> (h, l, l)."""
    heads, length, _ = q.shape
    result = np.zeros((heads, length, length))
    for h in range(heads):
        for t in range(length):
            scores = scaling * (k[h, : t + 1] @ q[h, t])
            shares = np.exp(scores - scores.max())
            result[h, t, : t + 1] = shares / shares.sum()
    return result


def run_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scaling: float,
    out_weight: Array,
    out_bias: Array | None = None,
) -> AttentionRun:
    """Attend row by row (Vaswani et al., 1706.03762, section 3.2).

    Shapes: q, k, v (h, l, p); out_weight (m, h p); out_bias (m,), zero unless given.
    """
    heads, length, width = v.shape
    shares = alpha(q, k, scaling)
    read = np.empty((length, heads * width))
    for t in range(length):
        read[t] = np.concatenate([shares[h, t] @ v[h] for h in range(heads)])
    bias = np.zeros(len(out_weight)) if out_bias is None else out_bias
    return AttentionRun(
        q=q,
        k=k,
        v=v,
        alpha=shares,
        out_weight=out_weight,
        out_bias=bias,
        output=read @ out_weight.T + bias,
    )
