"""S6, the selective state space of Mamba-1: its trace, hidden attention and exact decomposition.

Axes: t query, s key, k the position between convolution and scan, d channel, n state, m hidden
size, l tokens, j tap of the convolution.

    y[t, d] = sum_{s<=t} alpha[d, t, s] x[s, d] + D[d] x[t, d]
    alpha[d, t, s] = Delta[s, d] sum_n C[t, n] B[s, n] exp(A[d, n] sum_{s<k<=t} Delta[k, d])
    o[t] = W_out (y[t] * silu(z[t])) + b_out

Where a mixer has several heads, B and C are those of the channel's head.

Sources: Gu and Dao, "Mamba" (2312.00752); Ali, Zimerman and Wolf, "The Hidden Attention of Mamba
Models" (2403.01590). Slow twin: tests/reference/s6_mixer.py.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from schemas import pieces
from schemas.names import Mixer
from workers.mixers import s6_heads
from workers.mixers.protocol import Capture, Contribution, Read, Summary, Weighting
from workers.mixers.s6_contribution import Decomposition
from workers.mixers.s6_heads import Head, HeadMoments, Pair, carried_states, heads_of
from workers.mixers.s6_pieces import Piece, S6Weights
from workers.relative_error import relative_error


@dataclass(frozen=True)
class S6Trace:
    """One S6 mixer on one text (see `protocol.MixerTrace`).

    Nothing is kept but the capture. Each pass recomputes what the mixer did, a piece of the text at
    a time, at the cost of its projections; a text of one piece, and one whose matrix was asked for,
    is recomputed once.
    """

    weights: S6Weights
    capture: Capture
    family: Mixer = Mixer.S6

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
        return len(self.weights.D)

    @cached_property
    def whole(self) -> Piece:
        """The text as one piece, kept from then on."""
        return self.weights.piece(self.capture.hidden, 0, self.length)

    def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
        """One pass from the start: O(l d n) time, O(l d n^2) with spreads, and the projections."""
        sweep = _Forwards(self, spreads, attributed)
        for piece in self.pieces(self.length):
            sweep.read(piece)
        return sweep.summary()

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """K[t, s] = mean_d p[t, d] q[s, d] alpha[d, t, s] (l, l); see `attention_matrices`."""
        whole = self.whole
        pairs = [self.pair(kind, whole) for kind in weightings]
        return s6_heads.matrices(self.heads(whole), pairs)

    def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
        """r K (k, l), in one pass back from query `stop` - 1: O(k l d n) time."""
        found = [torch.zeros_like(read.rows) for read in reads]
        states = [carried_states(self.weights, len(read.rows)) for read in reads]
        for piece in self.pieces(stop, last_first=True):
            at, heads = piece.tokens, self.heads(piece)
            for read, carried, out in zip(reads, states, found, strict=True):
                pair = self.pair(read.weighting, piece)
                out[:, at] = s6_heads.weighted(heads, read.rows[:, at], pair, carried)
        return found

    def gather(self, rows: Tensor) -> Tensor:
        """(k, d): sum_s r[k, s] x[s, d]. Cost O(k l d)."""
        parts = (rows[:, piece.tokens] @ piece.x for piece in self.pieces(self.length))
        return sum(parts, start=rows.new_zeros(len(rows), self.channels))

    def contributions(self, queries: Sequence[int]) -> Iterator[Contribution]:
        """See `s6_contribution`. Cost of each: O(l d n) for the row, O(l d m) for the norms."""
        self.capture.gradient()  # raises before the first part is asked for
        if len(queries) > 1:
            self.whole  # noqa: B018  (recomputed once, not once a query)
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
        if self.length <= pieces.READ or "whole" in vars(self):
            yield self.whole.until(stop)
            return
        borders = list(pieces.borders(stop, pieces.READ))
        for start, end in reversed(borders) if last_first else borders:
            yield self.weights.piece(self.capture.hidden, start, end)

    def heads(self, piece: Piece) -> list[Head]:
        """The systems that the kernels read, one a head."""
        return heads_of(self.weights, piece)

    def pair(self, weighting: Weighting, piece: Piece) -> Pair:
        """(p, q), each (l, d) or None for ones."""
        if weighting is Weighting.PLAIN:
            return None, None
        return self.at_neurons(piece.tokens) * functional.silu(piece.gate), piece.x

    def at_neurons(self, tokens: slice) -> Tensor:
        """(tokens, d): d target by each neuron."""
        return self.capture.gradient()[tokens].float() @ self.weights.out_weight


class _Forwards:
    """The pass from a text's start, as its pieces come."""

    def __init__(self, trace: S6Trace, spreads: Collection[Weighting], attributed: bool) -> None:
        A = trace.weights.A
        self._trace = trace
        self._states = carried_states(trace.weights, 2)
        self._moments = {kind: HeadMoments(trace.weights) for kind in spreads}
        kinds = {Weighting.PLAIN, *spreads}
        self._row_sums = {kind: A.new_empty(trace.length) for kind in kinds}
        self._added = {kind: A.new_empty(trace.length) for kind in kinds}
        sums = torch.zeros(3, len(A), dtype=torch.float64, device=A.device)
        self._mixed, self._pulled, self._attributed = sums
        self._attributes = attributed
        self._differences: list[Tensor] = []

    def read(self, piece: Piece) -> None:
        trace, at = self._trace, piece.tokens
        heads = trace.heads(piece)
        mixed, sums = s6_heads.apply(heads, piece.x, self._states)
        self._row_sums[Weighting.PLAIN][at] = sums
        # What a query reads of its own token, before states and channels cancel.
        own = s6_heads.own_products(heads)
        own_read = s6_heads.own_token(heads, own, piece.delta)
        self._added[Weighting.PLAIN][at] = sums.abs() + own_read
        self._mixed += mixed.sum(0, dtype=torch.float64)
        for kind, moments in self._moments.items():
            p, q = pair = trace.pair(kind, piece)
            moments.read(heads, pair)
            if p is not None and q is not None:
                pulled = p * mixed
                self._row_sums[kind][at] = pulled.mean(1)
                read = (p * piece.delta).mul_(q).abs_()
                own_read = s6_heads.own_token(heads, own, read)
                self._added[kind][at] = pulled.abs().mean(1) + own_read
                self._pulled += pulled.sum(0, dtype=torch.float64)
        neurons = mixed.addcmul_(trace.weights.D, piece.x).mul_(functional.silu(piece.gate))
        if self._attributes:
            pulled = trace.at_neurons(at).mul_(neurons)
            self._attributed += pulled.sum(0, dtype=torch.float64)
        rebuilt = trace.weights.output(neurons)
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
            spreads={k: m.deviation(trace.length) for k, m in self._moments.items()},
            pulled=self._pulled.float() if Weighting.GRADIENT in self._moments else None,
            attributed=self._attributed.float() if self._attributes else None,
        )
