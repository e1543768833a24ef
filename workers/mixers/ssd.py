"""SSD, the state space duality of Mamba-2: its trace, hidden attention and exact decomposition.

Axes: t query, s key, h head, p channel of a head, d = h p channel, g group, n state, m hidden size,
l tokens.

    y[t, d] = sum_{s<=t} alpha[h, t, s] x[s, d] + D[h] x[t, d]
    alpha[h, t, s] = Delta[s, h] (C[t, g] . B[s, g]) exp(A[h] sum_{s<k<=t} Delta[k, h])
    o[t] = W_out neurons[t] + b_out,   neurons = norm(y * silu(z))

Sources: Dao and Gu, "Transformers are SSMs" (2405.21060); Ali, Zimerman and Wolf (2403.01590). Slow
twin: tests/reference/ssd_explicit.py.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from schemas import pieces
from schemas.names import Mixer
from workers.kernels.ssd import (
    Moments,
    attention_matrices,
    carried_state,
    weighted_rows,
)
from workers.mixers.protocol import Capture, Contribution, Read, Summary, Weighting
from workers.mixers.ssd_contribution import Decomposition
from workers.mixers.ssd_pieces import Piece, SSDWeights
from workers.relative_error import relative_error


@dataclass(frozen=True)
class SSDTrace:
    """One SSD mixer on one text (see `protocol.MixerTrace`).

    What is kept beside the capture is a text of one piece, or else the scan's state before every
    piece: each pass recomputes what the mixer did, a piece at a time.
    """

    weights: SSDWeights
    capture: Capture
    family: Mixer = Mixer.SSD
    _states: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def layer(self) -> int:
        """Index of the layer in the model."""
        return self.capture.layer

    @property
    def length(self) -> int:
        """l, the tokens of the text."""
        return len(self.capture.hidden)

    @property
    def channels(self) -> int:
        """d, the channels of the mixer (d_inner)."""
        return self.weights.channels

    @cached_property
    def whole(self) -> Piece:
        """The text as one piece, kept from then on."""
        return self.weights.piece(self.capture.hidden, 0, self.length, None)

    def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
        """One pass from the start: O(l d n), with spreads O(l d min(l, 4096 + n^2))."""
        sweep = _Forwards(self, spreads, attributed)
        for piece in self.pieces(self.length):
            sweep.read(piece)
        return sweep.summary()

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """K[t, s] = mean_d p[t, d] q[s, d] alpha[h, t, s] (l, l); see `attention_matrices`."""
        whole = self.whole
        return attention_matrices(whole.system, [self.pair(kind, whole) for kind in weightings])

    def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
        """r K (k, l), in one pass back from query `stop` - 1: O(k l d n) time."""
        found = [torch.zeros_like(read.rows) for read in reads]
        states: list[Tensor | None] = [None] * len(reads)
        for piece in self.pieces(stop, last_first=True):
            at = piece.tokens
            for index, read in enumerate(reads):
                p, q = self.pair(read.weighting, piece)
                if states[index] is None:
                    width = 1 if p is None else self.weights.head_channels
                    states[index] = carried_state(piece.system, len(read.rows), width)
                rows = read.rows[:, at]
                found[index][:, at] = weighted_rows(piece.system, rows, p, q, states[index])
        return found

    def gather(self, rows: Tensor) -> Tensor:
        """(k, d): sum_s r[k, s] x[s, d]. Cost O(k l d)."""
        parts = (rows[:, piece.tokens] @ piece.x for piece in self.pieces(self.length))
        return sum(parts, start=rows.new_zeros(len(rows), self.channels))

    def contributions(self, queries: Sequence[int]) -> Iterator[Contribution]:
        """See `ssd_contribution`. Cost of each: O(l h n) for the row, O(l d m) for the norms."""
        self.capture.gradient()  # raises before the first part is asked for
        for query in queries:
            parts = Decomposition(self.weights, self.capture, query, self.largest_output)
            for piece in self.pieces(query + 1, last_first=True):
                if parts.complete:
                    break
                parts.read(piece)
            yield parts.contribution()

    @cached_property
    def largest_output(self) -> Tensor:
        """max|o|, what errors are relative to."""
        low, high = self.capture.output.aminmax()
        return torch.maximum(-low, high)

    def pieces(self, stop: int, last_first: bool = False) -> Iterator[Piece]:
        """The text's tokens up to `stop`, piece by piece."""
        if self.length <= pieces.READ_SSD or "whole" in vars(self):
            yield self.whole.until(stop)
            return
        borders = [b for b in pieces.borders(self.length, pieces.READ_SSD) if b[0] < stop]
        order = range(len(borders))
        if last_first:
            # The states before the last pieces must be known before these can be run again.
            for index in range(len(self._states), len(borders)):
                self._run(index, borders[index])
            order = order[::-1]
        for index in order:
            yield self._run(index, borders[index]).until(stop)

    def _run(self, index: int, border: tuple[int, int]) -> Piece:
        """A whole piece, from the state that the one before it has left."""
        weights = self.weights
        if not self._states:
            shape = (1, len(weights.A), weights.states, weights.head_channels + 1)
            self._states.append(weights.A.new_zeros(shape))
        state = self._states[index].clone()
        piece = weights.piece(self.capture.hidden, *border, state)
        if len(self._states) == index + 1:
            self._states.append(state)
        return piece

    def pair(self, weighting: Weighting, piece: Piece) -> tuple[Tensor | None, Tensor | None]:
        """(p, q), each (l, d) or None for ones."""
        if weighting is Weighting.PLAIN:
            return None, None
        weights = self.weights
        at_neurons = self.at_neurons(piece.tokens)
        return weights.gate.pull(at_neurons, weights.scanned(piece), piece.gate), piece.x

    def at_neurons(self, tokens: slice) -> Tensor:
        """(tokens, d): d target by each neuron."""
        return self.capture.gradient()[tokens].float() @ self.weights.out_weight


class _Forwards:
    """The pass from a text's start, as its pieces come."""

    def __init__(self, trace: SSDTrace, spreads: Collection[Weighting], attributed: bool) -> None:
        A, d = trace.weights.A, trace.channels
        self._trace = trace
        self._moments: dict[Weighting, Moments | None] = dict.fromkeys(spreads)
        kinds = {Weighting.PLAIN, *spreads}
        self._row_sums = {kind: A.new_empty(trace.length) for kind in kinds}
        self._added = {kind: A.new_empty(trace.length) for kind in kinds}
        sums = torch.zeros(3, d, dtype=torch.float64, device=A.device)
        self._mixed, self._pulled, self._attributed = sums
        self._attributes = attributed
        self._of_heads = torch.zeros(len(A), dtype=torch.float64, device=A.device)
        self._differences: list[Tensor] = []

    def read(self, piece: Piece) -> None:
        trace, at, system = self._trace, piece.tokens, piece.system
        weights = trace.weights
        self._row_sums[Weighting.PLAIN][at] = piece.row_sums.mean(1)
        # What a query reads of its own token, before states and channels cancel: (l, h).
        own = (system.C * system.B).abs().sum(2)
        own = own.repeat_interleave(system.heads // system.groups, dim=1).mul_(system.delta)
        self._added[Weighting.PLAIN][at] = piece.row_sums.abs().mean(1) + own.mean(1)
        self._mixed += piece.mixed.sum(0, dtype=torch.float64)
        self._of_heads += piece.row_sums.sum(0, dtype=torch.float64)
        for kind in self._moments:
            p, q = trace.pair(kind, piece)
            self._read_moments(kind, piece, p, q)
            if p is not None and q is not None:
                pulled = p * piece.mixed
                self._row_sums[kind][at] = pulled.mean(1)
                read = (p * q).abs_().view(len(p), system.heads, -1).mean(2).mul_(own)
                self._added[kind][at] = pulled.abs().mean(1) + read.mean(1)
                self._pulled += pulled.sum(0, dtype=torch.float64)
        neurons = self._neurons(piece)
        if self._attributes:
            pulled = trace.at_neurons(at).mul_(neurons)
            self._attributed += pulled.sum(0, dtype=torch.float64)
        rebuilt = weights.output(neurons)
        self._differences.append((rebuilt - trace.capture.output[at]).abs().max())

    def summary(self) -> Summary:
        trace = self._trace
        # torch's maximum, which a NaN passes; Python's would drop it.
        difference = torch.stack(self._differences).max()
        return Summary(
            reconstruction_error=relative_error(difference, trace.largest_output),
            mean_mixed=(self._mixed / trace.length).float(),
            row_sums=self._row_sums,
            added=self._added,
            spreads={kind: self._spread(kind) for kind in self._moments},
            pulled=self._pulled.float() if Weighting.GRADIENT in self._moments else None,
            attributed=self._attributed.float() if self._attributes else None,
        )

    def _neurons(self, piece: Piece) -> Tensor:
        weights = self._trace.weights
        y = weights.scanned(piece)
        return weights.gate.gain(y, piece.gate).mul_(y)

    def _read_moments(
        self, kind: Weighting, piece: Piece, p: Tensor | None, q: Tensor | None
    ) -> None:
        system = piece.system
        moments = self._moments[kind]
        if moments is None:
            moments = Moments.start(system, system.heads if p is None else p.shape[1])
            self._moments[kind] = moments
        first, last = piece.start == 0, piece.stop == self._trace.length
        moments.read(system, p, q, first=first, last=last)

    def _spread(self, kind: Weighting) -> Tensor:
        """(d,): the deviation over pairs of every channel."""
        moments, trace = self._moments[kind], self._trace
        if moments is None:
            raise RuntimeError("a text without tokens has no moments")
        if kind is Weighting.GRADIENT:
            return moments.deviation(self._pulled, trace.length)
        of_heads = moments.deviation(self._of_heads, trace.length)
        return of_heads.repeat_interleave(trace.weights.head_channels)
