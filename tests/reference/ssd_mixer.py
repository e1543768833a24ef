"""Slow float64 twin of a whole Mamba-2 mixer: what it computes, its alpha, its decomposition."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.reference.contribution import sigmoid

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixerRun:
    """One mixer on one text; its d channels are h heads of p, each head reading one of g groups.

    Its weights by name and its input hidden (l, m). A (h,) negative; D (h,); conv_weight (d, j) and
    conv_bias (d,) of the x part alone, the last tap reads the position itself. delta (l, h) after
    softplus and its limits; conv_input u, conv_output c, x = silu(c), gate z before silu: (l, d);
    B, C (l, g, n); norm_scale (l, d), what the gated norm multiplies y silu(z) by, its weight
    included; output (l, m).
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
    norm_scale: Array
    out_weight: Array
    out_bias: Array
    output: Array

    @cached_property
    def alpha(self) -> Array:
        """(h, t, s), materialised."""
        return alpha(self.delta, self.A, self.B, self.C)

    def contributions(self, query: int) -> Array:
        """T_query(u_s) for every s: (l, m); zero after the query.

        T_t(u_s) = W_out [g_t * sum_k (alpha[h,t,k] + D 1[t=k]) * sigma(c_k) * w_{k-s} * u_s] with
        g_t = silu(z_t) * norm_scale_t: exact, with gate and norm frozen at their values, because
        silu(c) = c sigma(c) and c is linear in u.
        """
        reads, taps = self._reads(query), self.conv_weight.shape[1]
        neurons = np.zeros_like(self.conv_input)
        for s in range(query + 1):
            for k in range(s, min(s + taps, query + 1)):
                neurons[s] += reads[k] * self.conv_weight[:, taps - 1 - (k - s)]
            neurons[s] *= self.conv_input[s]
        vectors: Array = (neurons * self._gain(query)) @ self.out_weight.T
        return vectors

    def bias_part(self, query: int) -> Array:
        """(m,): the part of output[query] that comes from the two biases alone."""
        passed = self._reads(query).sum(0) * self.conv_bias
        total: Array = self.out_weight @ (passed * self._gain(query)) + self.out_bias
        return total

    def _reads(self, query: int) -> Array:
        """What y[query] reads of each position's c, per channel: (l, d)."""
        heads = np.zeros_like(self.delta)
        heads[: query + 1] = alpha_row(self.delta, self.A, self.B, self.C, query).T
        heads[query] += self.D
        width = self.x.shape[1] // len(self.A)
        reads: Array = np.repeat(heads, width, axis=1) * sigmoid(self.conv_output)
        return reads

    def _gain(self, query: int) -> Array:
        gate = self.gate[query]
        gain: Array = gate * sigmoid(gate) * self.norm_scale[query]
        return gain


def alpha(delta: Array, A: Array, B: Array, C: Array) -> Array:
    """alpha (h, t, s), row by row; arguments as of `alpha_row`."""
    length, heads = delta.shape
    result = np.zeros((heads, length, length))
    for t in range(length):
        result[:, t, : t + 1] = alpha_row(delta, A, B, C, t)
    return result


def alpha_row(delta: Array, A: Array, B: Array, C: Array, query: int) -> Array:
    """alpha[h,query,s] for s <= query, term by term: (h, query + 1).

    alpha[h,t,s] = Delta[s,h] (C_t . B_s) exp(A_h (S_t - S_s)), S_t = sum_{k<=t} Delta_k. Source:
    Dao and Gu (2405.21060), section 3. Shapes: delta (l, h); A (h,); B, C (l, g, n), where head h
    reads group h // (heads / g).
    """
    heads = delta.shape[1]
    group = np.arange(heads) // (heads // B.shape[1])
    total = np.cumsum(delta, axis=0)
    row = np.empty((heads, query + 1))
    for s in range(query + 1):
        match = (C[query] * B[s]).sum(1)[group]
        row[:, s] = delta[s] * match * np.exp(A * (total[query] - total[s]))
    return row


def run_mixer(
    weights: dict[str, Array],
    hidden: Array,
    *,
    groups: int,
    epsilon: float,
    limits: tuple[float, float] = (0.0, np.inf),
) -> MixerRun:
    """Run a mixer token by token, as its recurrence reads (2405.21060, equation 1).

    `weights` are the mixer's own by name, in transformers' layout: in_proj gives z, then x, B and C
    for the convolution, then dt. Absent biases are zero. hidden (l, m); `groups` of B, C and norm;
    `epsilon` of the norm; `limits` of delta.
    """
    heads, (m, d) = len(weights["A_log"]), weights["out_proj.weight"].shape
    length, size = len(hidden), weights["in_proj.weight"].shape[0]
    projected = hidden @ weights["in_proj.weight"].T + weights.get("in_proj.bias", np.zeros(size))
    gate, mixed, step = np.split(projected, [d, size - heads], axis=1)
    kernel = weights["conv1d.weight"][:, 0]
    bias = weights.get("conv1d.bias", np.zeros(len(kernel)))
    conv = _causal_conv(mixed, kernel, bias)
    n = (mixed.shape[1] - d) // (2 * groups)
    x, B, C = np.split(conv * sigmoid(conv), [d, d + groups * n], axis=1)
    B, C = B.reshape(length, groups, n), C.reshape(length, groups, n)
    delta = np.clip(np.logaddexp(0, step + weights["dt_bias"]), *limits)
    A = -np.exp(weights["A_log"])
    y = _recurrence(x.reshape(length, heads, -1), delta, A, B, C, weights["D"]).reshape(length, d)
    gated = y * gate * sigmoid(gate)
    square = (gated.reshape(length, groups, -1) ** 2).mean(2)
    norm_scale = np.repeat(1 / np.sqrt(square + epsilon), d // groups, axis=1)
    norm_scale = norm_scale * weights["norm.weight"]
    out_weight, out_bias = weights["out_proj.weight"], weights.get("out_proj.bias", np.zeros(m))
    return MixerRun(
        weights=weights,
        hidden=hidden,
        delta=delta,
        A=A,
        B=B,
        C=C,
        D=weights["D"],
        x=x,
        conv_input=mixed[:, :d],
        conv_output=conv[:, :d],
        conv_weight=kernel[:d],
        conv_bias=bias[:d],
        gate=gate,
        norm_scale=norm_scale,
        out_weight=out_weight,
        out_bias=out_bias,
        output=(gated * norm_scale) @ out_weight.T + out_bias,
    )


def _causal_conv(u: Array, kernel: Array, bias: Array) -> Array:
    """c_t = bias + sum_lag kernel[:, j-1-lag] u_{t-lag}; u (l, d), kernel (d, j)."""
    conv, taps = np.tile(bias, (len(u), 1)), kernel.shape[1]
    for t in range(len(u)):
        for lag in range(min(taps, t + 1)):
            conv[t] += kernel[:, taps - 1 - lag] * u[t - lag]
    return conv


def _recurrence(x: Array, delta: Array, A: Array, B: Array, C: Array, D: Array) -> Array:
    """y (l, h, p) of x (l, h, p), one head after another."""
    length, heads, width = x.shape
    per_group = heads // B.shape[1]
    y = np.empty_like(x)
    for h in range(heads):
        g, state = h // per_group, np.zeros((width, B.shape[2]))
        for t in range(length):
            written = delta[t, h] * np.outer(x[t, h], B[t, g])
            state = np.exp(delta[t, h] * A[h]) * state + written
            y[t, h] = state @ C[t, g] + D[h] * x[t, h]
    return y
