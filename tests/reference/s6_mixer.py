"""Slow float64 twin of a whole S6 mixer: what it computes, its alpha, its decomposition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.reference.contribution import contribution_vectors, sigmoid
from tests.reference.hidden_attention import alpha

Array = NDArray[np.float64]
Norm = tuple[Array | None, float]
"""Weight (k,) or None, and epsilon."""


@dataclass(frozen=True)
class MixerRun:
    """One mixer on one text. Of several heads, each has a block of channels, and of B and C.

    Its weights by name and its input hidden (l, m). A (d, n) negative; D (d,); conv_weight (d, j),
    the last tap reads the position itself. delta after softplus, conv_input u, conv_output c,
    x = silu(c), gate z before silu: (l, d); B, C (l, heads n); output (l, m).
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
    heads: int = 1

    @cached_property
    def alpha(self) -> Array:
        """(d, t, s), materialised."""
        systems = [
            alpha(self.delta[:, own], self.A[own], self.B[:, n], self.C[:, n])
            for own, n in self._blocks()
        ]
        return np.concatenate(systems)

    def contributions(self, query: int) -> Array:
        """T_query(u_s) for every s: (l, m)."""
        heads = [
            contribution_vectors(
                delta=self.delta[:, own],
                A=self.A[own],
                B=self.B[:, n],
                C=self.C[:, n],
                D=self.D[own],
                gate=self.gate[:, own],
                conv_input=self.conv_input[:, own],
                conv_output=self.conv_output[:, own],
                conv_weight=self.conv_weight[own],
                out_weight=self.out_weight[:, own],
                query=query,
            )
            for own, n in self._blocks()
        ]
        total: Array = np.sum(heads, axis=0)
        return total

    def bias_part(self, query: int) -> Array:
        """(m,): the part of output[query] that comes from the two biases alone."""
        reads = self.alpha[:, query].T.copy()
        reads[query] += self.D
        passed = (reads * sigmoid(self.conv_output)).sum(0) * self.conv_bias
        gate = self.gate[query] * sigmoid(self.gate[query])
        total: Array = self.out_weight @ (passed * gate) + self.out_bias
        return total

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Each head's channels, and its states in B and C."""
        return blocks(self.heads, *self.A.shape)


def blocks(heads: int, d: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Each head's channels, and its states in B and C."""
    width = d // heads
    for head in range(heads):
        yield slice(head * width, (head + 1) * width), slice(head * n, (head + 1) * n)


def rms_norm(v: Array, norm: Norm) -> Array:
    """v / sqrt(mean v^2 + epsilon), times the weight where there is one."""
    weight, epsilon = norm
    scaled: Array = v / np.sqrt(np.mean(v * v, axis=-1, keepdims=True) + epsilon)
    return scaled if weight is None else scaled * weight


def run_mixer(
    weights: dict[str, Array], hidden: Array, heads: int = 1, norms: Sequence[Norm] | None = None
) -> MixerRun:
    """Run a mixer token by token, as its recurrence reads (2312.00752, algorithm 2).

    `weights` are a Mamba's own by name; absent biases are zero. hidden (l, m). Of several heads,
    x_proj.weight has one a row of blocks, (heads, rank + 2 n, d / heads). norms: of the step's
    low-rank form, B and C.
    """
    d, n = weights["A_log"].shape
    length = len(hidden)
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
    delta, B, C = _selected(weights, x, heads, norms)
    A = -np.exp(weights["A_log"])
    state, y = np.zeros((d, n)), np.empty((length, d))
    for t in range(length):
        for own, states in blocks(heads, d, n):
            decay = np.exp(delta[t, own, None] * A[own])
            state[own] = decay * state[own] + (delta[t, own] * x[t, own])[:, None] * B[t, states]
            y[t, own] = state[own] @ C[t, states] + weights["D"][own] * x[t, own]
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
        heads=heads,
    )


def _selected(
    weights: dict[str, Array], x: Array, heads: int, norms: Sequence[Norm] | None
) -> tuple[Array, Array, Array]:
    """delta (l, d), B and C (l, heads n)."""
    d, n = weights["A_log"].shape
    rank = weights["dt_proj.weight"].shape[1]
    selections = weights["x_proj.weight"].reshape(heads, rank + 2 * n, d // heads)
    delta, (B, C) = np.empty_like(x), np.empty((2, len(x), heads * n))
    for selection, (own, states) in zip(selections, blocks(heads, d, n), strict=True):
        step, b, c = np.split(x[:, own] @ selection.T, [rank, rank + n], axis=1)
        if norms is not None:
            step, b, c = (rms_norm(v, norm) for v, norm in zip((step, b, c), norms, strict=True))
        low = step @ weights["dt_proj.weight"][own].T + weights["dt_proj.bias"][own]
        delta[:, own] = np.log1p(np.exp(low))
        B[:, states], C[:, states] = b, c
    return delta, B, C
