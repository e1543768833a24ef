"""Traces for tests: one given by its alpha as numbers, and random S6 mixers with their twins."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.names import Mixer
from tests.reference.s6_mixer import Array, MixerRun, run_mixer
from workers.mixers.mamba import s6_weights
from workers.mixers.protocol import Capture, Contribution, Read, Summary, Weighting
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

    def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
        pairs = {kind: self._weighted(kind) for kind in {Weighting.PLAIN, *spreads}}
        at = torch.tril_indices(self.length, self.length)
        pulled = None
        if attributed or Weighting.GRADIENT in spreads:
            pulled = (self._gradient() * self._mixed()).sum(0)
        return Summary(
            reconstruction_error=torch.tensor(self.error),
            mean_mixed=self._mixed().mean(0),
            row_sums={kind: self._row_sums(weighted) for kind, weighted in pairs.items()},
            added={kind: weighted.sum(2).abs().mean(0) for kind, weighted in pairs.items()},
            spreads={k: pairs[k][:, at[0], at[1]].std(1, correction=0) for k in spreads},
            pulled=pulled,
            attributed=pulled if attributed else None,
        )

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        return [self._weighted(kind).mean(0) for kind in weightings]

    def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
        assert not any(bool(read.rows[:, stop:].any()) for read in reads)
        return [read.rows @ self._weighted(read.weighting).mean(0) for read in reads]

    def gather(self, rows: Tensor) -> Tensor:
        return rows @ self.values

    def vectors(self, query: int) -> Tensor:
        """T_query(s): (l, m)."""
        reads = self.alpha[:, query].T.clone()
        reads[query] += self.skip
        return (reads * self.values * self.gate[query]) @ self.out_weight.T

    def contributions(self, queries: Sequence[int]) -> Iterator[Contribution]:
        at_neurons, neurons = self._gradient() / self.gate, self._neurons()
        for query in queries:
            vectors = self.vectors(query)
            signed = vectors @ self.output_gradient[query]  # type: ignore[index]
            effect = at_neurons[query] * neurons[query]
            yield Contribution(
                vectors.norm(dim=1), signed, torch.tensor(0.0), effect, torch.tensor(self.error)
            )

    def _mixed(self) -> Tensor:
        return torch.einsum("dts,sd->td", self.alpha, self.values)

    def _neurons(self) -> Tensor:
        return (self._mixed() + self.skip * self.values) * self.gate

    def _gradient(self) -> Tensor:
        if self.output_gradient is None:
            raise ValueError("the gradient was not traced")
        return self.output_gradient @ self.out_weight * self.gate

    def _row_sums(self, weighted: Tensor) -> Tensor:
        return weighted.mean(0).sum(1)

    def _weighted(self, weighting: Weighting) -> Tensor:
        if weighting is Weighting.PLAIN:
            return self.alpha
        return torch.einsum("td,sd,dts->dts", self._gradient(), self.values, self.alpha)


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

    named = {name: narrow(values) for name, values in run.weights.items()}
    capture = Capture(layer, narrow(run.hidden), narrow(run.output), narrow(output_gradient))
    return S6Trace(s6_weights(named), capture)
