"""Slow float64 twin of a whole Mamba-1 mixer: what it computes, its alpha, its decomposition."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.reference.contribution import contribution_vectors, sigmoid
from tests.reference.hidden_attention import alpha

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixerRun:
    """One mixer on one text.

    Its weights by name and its input hidden (l, m). A (d, n) negative; D (d,); conv_weight (d, j),
    the last tap reads the position itself. delta after softplus, conv_input u, conv_output c,
    x = silu(c), gate z before silu: (l, d); B, C (l, n); output (l, m).
    """

    weights: dict[str, Array]
    hidden: Array
    delta: Array
    A: Array
    B: Array
    C: Array
    D: Array
    x: Array
    conv_input: Array
    conv_output: Array
    conv_weight: Array
    conv_bias: Array
    gate: Array
    out_weight: Array
    out_bias: Array
    output: Array

    @cached_property
    def alpha(self) -> Array:
        """(d, t, s), materialised."""
        return alpha(self.delta, self.A, self.B, self.C)

    def contributions(self, query: int) -> Array:
        """T_query(u_s) for every s: (l, m)."""
        return contribution_vectors(
            delta=self.delta,
            A=self.A,
            B=self.B,
            C=self.C,
            D=self.D,
            gate=self.gate,
            conv_input=self.conv_input,
            conv_output=self.conv_output,
            conv_weight=self.conv_weight,
            out_weight=self.out_weight,
            query=query,
        )

    def bias_part(self, query: int) -> Array:
        """(m,): the part of output[query] that comes from the two biases alone."""
        reads = self.alpha[:, query].T.copy()
        reads[query] += self.D
        passed = (reads * sigmoid(self.conv_output)).sum(0) * self.conv_bias
        gate = self.gate[query] * sigmoid(self.gate[query])
        total: Array = self.out_weight @ (passed * gate) + self.out_bias
        return total


def run_mixer(weights: dict[str, Array], hidden: Array) -> MixerRun:
    """Run a mixer token by token, as its recurrence reads (2312.00752, algorithm 2).

    `weights` are the mixer's own by name; absent biases are zero. hidden (l, m).
    """
    d, n = weights["A_log"].shape
    rank, length = weights["dt_proj.weight"].shape[1], len(hidden)
    m = hidden.shape[1]
    projected = hidden @ weights["in_proj.weight"].T + weights.get("in_proj.bias", np.zeros(2 * d))
    u, gate = projected[:, :d], projected[:, d:]
    kernel = weights["conv1d.weight"][:, 0]
    bias = weights.get("conv1d.bias", np.zeros(d))
    taps = kernel.shape[1]
    conv = np.tile(bias, (length, 1))
    for t in range(length):
        for lag in range(min(taps, t + 1)):
            conv[t] += kernel[:, taps - 1 - lag] * u[t - lag]
    x = conv * sigmoid(conv)
    selected = x @ weights["x_proj.weight"].T
    step = selected[:, :rank] @ weights["dt_proj.weight"].T + weights["dt_proj.bias"]
    delta, A = np.log1p(np.exp(step)), -np.exp(weights["A_log"])
    B, C = selected[:, rank : rank + n], selected[:, rank + n :]
    state, y = np.zeros((d, n)), np.empty((length, d))
    for t in range(length):
        state = np.exp(delta[t][:, None] * A) * state + (delta[t] * x[t])[:, None] * B[t]
        y[t] = state @ C[t] + weights["D"] * x[t]
    out_weight = weights["out_proj.weight"]
    out_bias = weights.get("out_proj.bias", np.zeros(m))
    return MixerRun(
        weights=weights,
        hidden=hidden,
        delta=delta,
        A=A,
        B=B,
        C=C,
        D=weights["D"],
        x=x,
        conv_input=u,
        conv_output=conv,
        conv_weight=kernel,
        conv_bias=bias,
        gate=gate,
        out_weight=out_weight,
        out_bias=out_bias,
        output=(y * gate * sigmoid(gate)) @ out_weight.T + out_bias,
    )
