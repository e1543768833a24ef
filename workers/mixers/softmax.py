"""Softmax attention: its trace, in the words of the other mixers.

Axes: t query, s key, h head, p channel of a head's value, d = h p channel, m hidden size, l tokens.

    y[t, d] = sum_{s<=t} alpha[h, t, s] v[s, d];   o[t] = W_out y[t] + b_out

The attention probabilities are the hidden attention, the values are what it reads, and the heads'
outputs, which the output projection reads, are the neurons. Every output is exactly the sum of
T_t(s) = sum_h alpha[h, t, s] W_out^h v_s over the tokens and of b_out (Kobayashi et al.,
2004.10102). Slow twin: tests/reference/softmax.py.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from schemas.names import Mixer
from workers.kernels.softmax import Heads, Weights, attention_matrices, weighted_rows
from workers.mixers.protocol import Capture, Contribution, Read, Summary, Weighting
from workers.relative_error import relative_error


@dataclass(frozen=True)
class SoftmaxTrace:
    """One attention layer on one text (see `protocol.MixerTrace`).

    out_weight (m, d), out_bias (m,) or None. Time is quadratic in the text's tokens, as the model's
    own; memory is not, but for `matrices`.
    """

    heads: Heads
    out_weight: Tensor
    out_bias: Tensor | None
    capture: Capture
    family: Mixer = Mixer.SOFTMAX

    @property
    def layer(self) -> int:
        """Index of the layer in the model."""
        return self.capture.layer

    @property
    def length(self) -> int:
        """l, the tokens of the text."""
        return self.heads.length

    @property
    def channels(self) -> int:
        """d, the channels of all heads."""
        return self.heads.channels

    @cached_property
    def x(self) -> Tensor:
        """The values (l, d)."""
        return self.heads.x()

    def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
        """One pass over the queries: O(l^2 d) time."""
        sweep = _Sweep(self, spreads, attributed)
        for rows in self.heads.blocks(self.length):
            sweep.read(rows)
        return sweep.summary()

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """K (l, l) of each weighting; see `kernels.softmax.attention_matrices`."""
        return attention_matrices(self.heads, [self.pair(kind) for kind in weightings])

    def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
        """r K (k, l) for each read; r is zero from `stop` on."""
        found = (weighted_rows(self.heads, r.rows, self.pair(r.weighting), stop) for r in reads)
        return list(found)

    def gather(self, rows: Tensor) -> Tensor:
        """(k, d): sum_s r[k, s] v[s, d]."""
        return rows @ self.x

    def contributions(self, queries: Sequence[int]) -> Iterator[Contribution]:
        """T_t(s) of each query t: O(l d m) each, for the norms."""
        gradient = self.capture.gradient().float()
        bias = self.out_weight.new_zeros(len(self.out_weight))
        bias = bias if self.out_bias is None else self.out_bias
        for query in queries:
            alpha = self.heads.alpha(slice(query, query + 1))[:, 0]
            reads = alpha.T[..., None] * self.x[: query + 1].view(query + 1, len(alpha), -1)
            reads = reads.flatten(1)
            at_neurons, neurons = gradient[query] @ self.out_weight, reads.sum(0)
            difference = functional.linear(neurons, self.out_weight, bias)
            difference = (difference - self.capture.output[query]).abs().max()
            spare = (0, self.length - query - 1)
            yield Contribution(
                norm=functional.pad((reads @ self.out_weight.T).norm(dim=1), spare),
                signed=functional.pad(reads @ at_neurons, spare),
                bias_signed=bias @ gradient[query],
                effect=at_neurons * neurons,
                error=relative_error(difference, self.largest_output),
            )

    @cached_property
    def largest_output(self) -> Tensor:
        """max|o|, what errors are relative to."""
        low, high = self.capture.output.aminmax()
        return torch.maximum(-low, high)

    def pair(self, weighting: Weighting) -> Weights:
        """(p, q), each (l, d) or None for ones."""
        if weighting is Weighting.PLAIN:
            return None, None
        return self.at_neurons(slice(None)), self.x

    def at_neurons(self, tokens: slice) -> Tensor:
        """(tokens, d): d target by each neuron."""
        return self.capture.gradient()[tokens].float() @ self.out_weight


class _Sweep:
    """The pass over the queries, a block at a time."""

    def __init__(
        self, trace: SoftmaxTrace, spreads: Collection[Weighting], attributed: bool
    ) -> None:
        like, length = trace.out_weight, trace.length
        self._trace = trace
        self._pairs = {kind: trace.pair(kind) for kind in {Weighting.PLAIN, *spreads}}
        self._spreads = spreads
        self._row_sums = {kind: like.new_empty(length) for kind in self._pairs}
        self._added = {kind: like.new_empty(length) for kind in self._pairs}
        width = trace.channels
        zeros = torch.zeros(2, len(self._pairs), width, dtype=torch.float64, device=like.device)
        self._firsts = dict(zip(self._pairs, zeros[0], strict=True))
        self._seconds = dict(zip(self._pairs, zeros[1], strict=True))
        self._mixed = torch.zeros_like(zeros[0, 0])
        self._attributed = torch.zeros_like(self._mixed)
        self._attributes = attributed
        self._differences: list[Tensor] = []

    def read(self, rows: slice) -> None:
        trace, heads = self._trace, self._trace.heads
        alpha = heads.alpha(rows)
        mixed = self._applied(alpha, trace.x[: rows.stop])
        self._mixed += mixed.sum(0, dtype=torch.float64)
        for kind in self._pairs:
            self._read(kind, rows, alpha, mixed)
        if self._attributes:
            pulled = trace.at_neurons(rows).mul_(mixed)
            self._attributed += pulled.sum(0, dtype=torch.float64)
        rebuilt = functional.linear(mixed, trace.out_weight, trace.out_bias)
        self._differences.append((rebuilt - trace.capture.output[rows]).abs().max())

    def summary(self) -> Summary:
        trace = self._trace
        pulled = self._firsts.get(Weighting.GRADIENT)
        return Summary(
            # torch's maximum, which a NaN passes; Python's would drop it.
            reconstruction_error=relative_error(
                torch.stack(self._differences).max(), trace.largest_output
            ),
            mean_mixed=(self._mixed / trace.length).float(),
            row_sums=self._row_sums,
            added=self._added,
            spreads={kind: self._deviation(kind) for kind in self._spreads},
            pulled=None if pulled is None else pulled.float(),
            attributed=self._attributed.float() if self._attributes else None,
        )

    def _read(self, kind: Weighting, rows: slice, alpha: Tensor, mixed: Tensor) -> None:
        p, q = self._pairs[kind]
        channels = self._trace.channels // len(alpha)
        if p is None or q is None:
            sums = alpha.sum(2).T.repeat_interleave(channels, dim=1)
        else:
            sums = p[rows] * mixed
        self._row_sums[kind][rows] = sums.mean(1)
        self._added[kind][rows] = sums.abs().mean(1)
        self._firsts[kind] += sums.sum(0, dtype=torch.float64)
        if kind not in self._spreads:
            return
        squares = alpha.square()
        if p is None or q is None:
            second = squares.sum((1, 2), dtype=torch.float64).repeat_interleave(channels)
        else:
            reads = self._applied(squares, q[: rows.stop].square())
            second = (p[rows].square() * reads).sum(0, dtype=torch.float64)
        self._seconds[kind] += second

    def _applied(self, weights: Tensor, values: Tensor) -> Tensor:
        """(rows, d): weights (h, rows, stop) times values (stop, d)."""
        found: Tensor = weights @ self._trace.heads.per_head(values)
        return found.transpose(0, 1).reshape(weights.shape[1], -1)

    def _deviation(self, kind: Weighting) -> Tensor:
        """(d,): population standard deviation over the causal pairs."""
        length = self._trace.length
        pairs = length * (length + 1) / 2
        mean = self._firsts[kind] / pairs
        if length == 1:
            # One pair has no spread; the difference of two sums would leave their rounding.
            return torch.zeros_like(mean).float()
        variance: Tensor = self._seconds[kind] / pairs - mean**2
        return variance.clamp_min(0.0).sqrt().float()
