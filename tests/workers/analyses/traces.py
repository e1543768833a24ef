"""Traces for tests: one given by its alpha as numbers, and random S6 mixers with their twins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.names import Mixer
from tests.reference.s6_mixer import Array, MixerRun, run_mixer
from workers.mixers.protocol import Contribution, Weighting
from workers.mixers.s6 import S6Trace


@dataclass(frozen=True)
class ExplicitTrace:
    """A mixer layer without convolution whose alpha (d, l, l) is materialised; float64.

    o[t] = W_out [gate[t] * (sum_s alpha[:, t, s] x[s] + D x[t])], `gate` already activated.
    """

    alpha: Tensor
    values: Tensor
    skip: Tensor
    gate: Tensor
    out_weight: Tensor
    output_gradient: Tensor | None
    layer: int = 0
    family: Mixer = Mixer.S6
    error: float = 0.0

    @property
    def length(self) -> int:
        return self.values.shape[0]

    @property
    def channels(self) -> int:
        return self.values.shape[1]

    @property
    def output(self) -> Tensor:
        return self.rebuild()

    def mixed(self, values: Tensor | None = None) -> Tensor:
        return torch.einsum("dts,sd->td", self.alpha, self.values if values is None else values)

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        return [self._weighted(p, q).mean(0) for p, q in weightings]

    def row(self, query: int) -> Tensor:
        return self.alpha[:, query].T

    def weighted_row(self, r: Tensor, p: Tensor | None = None, q: Tensor | None = None) -> Tensor:
        return r @ self._weighted(p, q).mean(0)

    def moments(self, p: Tensor | None = None, q: Tensor | None = None) -> tuple[Tensor, Tensor]:
        at = torch.tril_indices(self.length, self.length)
        pairs = self._weighted(p, q)[:, at[0], at[1]]
        return pairs.mean(1), pairs.std(1, correction=0)

    def channel_gradient(self) -> Tensor:
        return self.gated_gradient() * self.gate

    def gated(self) -> Tensor:
        return (self.mixed() + self.skip * self.values) * self.gate

    def gated_gradient(self) -> Tensor:
        if self.output_gradient is None:
            raise ValueError("the gradient was not traced")
        return self.output_gradient @ self.out_weight

    def vectors(self, query: int) -> Tensor:
        """T_query(s): (l, m)."""
        reads = self.row(query).clone()
        reads[query] += self.skip
        return (reads * self.values * self.gate[query]) @ self.out_weight.T

    def contribution(self, query: int) -> Contribution:
        vectors, gradient = self.vectors(query), self.output_gradient
        signed = None if gradient is None else vectors @ gradient[query]
        bias = None if gradient is None else 0.0
        return Contribution(vectors.norm(dim=1), signed, bias, self.error)

    def rebuild(self) -> Tensor:
        return self.gated() @ self.out_weight.T

    def reconstruction_error(self) -> float:
        return self.error

    def _weighted(self, p: Tensor | None, q: Tensor | None) -> Tensor:
        ones = torch.ones_like(self.values)
        weights = ((ones if p is None else p), (ones if q is None else q), self.alpha)
        return torch.einsum("td,sd,dts->dts", *weights)


def planted(mean: Tensor, layer: int = 0, channels: int = 3) -> ExplicitTrace:
    """Every channel reads by the same matrix `mean` (l, l); plain values, no skip, open gate."""
    length = len(mean)
    values = torch.arange(1, length + 1, dtype=torch.float64)[:, None].expand(length, channels)
    return ExplicitTrace(
        alpha=mean.to(torch.float64).tril().expand(channels, length, length),
        values=values.contiguous(),
        skip=torch.zeros(channels, dtype=torch.float64),
        gate=torch.ones(length, channels, dtype=torch.float64),
        out_weight=torch.eye(channels, dtype=torch.float64),
        output_gradient=torch.ones(length, channels, dtype=torch.float64),
        layer=layer,
    )


@dataclass(frozen=True)
class Sizes:
    """l tokens, d channels, n states, k taps, m hidden size."""

    l: int  # noqa: E741
    d: int
    n: int
    k: int
    m: int


def random_mixer(sizes: Sizes, seed: int) -> tuple[MixerRun, Array]:
    """A random S6 mixer run in float64, and a random d target / d output (l, m)."""
    source = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> Array:
        # Representable in float32, so that both sides start from the same numbers.
        return (scale * source.standard_normal(shape)).astype(np.float32).astype(np.float64)

    d, n, m = sizes.d, sizes.n, sizes.m
    rank = 2
    weights = {
        "A_log": draw(d, n, scale=0.5),
        "D": draw(d),
        "in_proj.weight": draw(2 * d, m, scale=m**-0.5),
        "conv1d.weight": draw(d, 1, sizes.k),
        "conv1d.bias": draw(d),
        "x_proj.weight": draw(rank + 2 * n, d, scale=d**-0.5),
        "dt_proj.weight": draw(d, rank),
        "dt_proj.bias": draw(d) - 1,
        "out_proj.weight": draw(m, d, scale=d**-0.5),
        "out_proj.bias": draw(m),
    }
    return run_mixer(weights, draw(sizes.l, m)), draw(sizes.l, m)


def s6_trace(run: MixerRun, output_gradient: Array, layer: int = 0) -> S6Trace:
    """The same mixer as a float32 trace."""

    def narrow(values: Array) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    return S6Trace(
        layer=layer,
        delta=narrow(run.delta),
        A=narrow(run.A),
        B=narrow(run.B),
        C=narrow(run.C),
        D=narrow(run.D),
        x=narrow(run.x),
        conv_input=narrow(run.conv_input),
        conv_output=narrow(run.conv_output),
        conv_weight=narrow(run.conv_weight),
        conv_bias=narrow(run.conv_bias),
        gate=narrow(run.gate),
        out_weight=narrow(run.out_weight),
        out_bias=narrow(run.out_bias),
        output=narrow(run.output),
        output_gradient=narrow(output_gradient),
    )
