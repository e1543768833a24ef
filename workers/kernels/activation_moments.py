"""Statistics of neurons over tokens that come batch by batch, in memory that does not grow.

Axes: b texts, l tokens (right-padded), d neuron, k kept, p bin of positions.

Slow twin: tests/reference/neuron_statistics.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.kernels import _moments_numba as loops
from workers.kernels._moments_numba import ACTIVE, HIGH, LOW, M2, M3, M4, MAGNITUDE, MEAN, PLACE
from workers.kernels._parallel import run
from workers.kernels._scan_numba import BLOCK
from workers.kernels.sparsity import hoyer
from workers.kernels.steps import Step
from workers.numbers import Floats


@dataclass(frozen=True)
class Positions:
    """How positions are binned: `borders` (p,), where each bin starts; `middle`, their mean."""

    borders: NDArray[np.int64]
    tokens: NDArray[np.int64]
    middle: float
    variance: float

    @classmethod
    def of(cls, lengths: Sequence[int], bins: int) -> "Positions":
        """At most `bins` bins with about equally many tokens, of texts of these lengths."""
        longest = max(lengths)
        # Texts that have a token at each position.
        ending = np.bincount(np.asarray(lengths), minlength=longest + 1)
        having = len(lengths) - np.cumsum(ending)[:longest]
        reached = np.cumsum(having)
        total = int(reached[-1])
        # The position at which each share of the tokens is complete starts the next bin.
        shares = np.arange(1, bins) * total / bins
        starts = np.unique(np.concatenate([[0], np.searchsorted(reached, shares) + 1]))
        borders = starts[starts < longest].astype(np.int64)
        at = np.arange(longest)
        middle = float((having * at).sum() / total)
        variance = float((having * (at - middle) ** 2).sum() / total)
        return cls(borders, np.add.reduceat(having, borders), middle, variance)


@dataclass
class ActivationMoments:
    """Running statistics of one block's d neurons.

    Moments are merged, not added up as powers, so they hold to float64 rounding whatever the mean.
    The `top` largest activations in magnitude are kept with their text and position, never those
    of 0; of equals the first that is read. O(d (k + p)) memory, whatever the number of tokens.
    """

    neurons: int
    positions: Positions
    active_above: float = 0.0
    top: int = 0
    tokens: int = 0
    texts: int = 0
    _sums: Floats = field(init=False, repr=False)
    _positive: NDArray[np.int32] = field(init=False, repr=False)
    _top: NDArray[np.float32] = field(init=False, repr=False)
    _where: NDArray[np.int32] = field(init=False, repr=False)
    _text_mean: Floats = field(init=False, repr=False)
    _text_m2: Floats = field(init=False, repr=False)
    _open: dict[int, Floats] = field(init=False, default_factory=dict, repr=False)
    _hoyer: float = field(init=False, default=0.0, repr=False)

    def __post_init__(self) -> None:
        self._sums = np.zeros((loops.SUMS, self.neurons))
        self._sums[LOW], self._sums[HIGH] = np.inf, -np.inf
        self._positive = np.zeros((len(self.positions.borders), self.neurons), np.int32)
        self._top = np.zeros((self.neurons, self.top), np.float32)
        self._where = np.full((self.neurons, self.top, 2), -1, np.int32)
        self._text_mean, self._text_m2 = np.zeros((2, self.neurons))

    def read(
        self,
        x: Tensor,
        rows: Sequence[int],
        texts: Sequence[int],
        lengths: Sequence[int],
        offset: int = 0,
    ) -> None:
        """Go on through activations x (b, l, d), whose tokens stand at `offset` and after.

        Of each of `rows` the text with that index, which has `lengths` tokens in all; a text that
        began in an earlier piece goes on. What lies past a text's end is not read.
        """
        array = x.detach().to("cpu", torch.float32).contiguous().numpy()
        here = [min(length - offset, array.shape[1]) for length in lengths]
        found = [r for r, count in enumerate(here) if count > 0]
        if not found:
            return
        which = np.array([(rows[r], here[r], texts[r]) for r in found], np.int64)
        sums = np.stack([self._open.pop(texts[r], np.zeros(self.neurons)) for r in found])
        norms = np.empty((*array.shape[:2], 2), np.float32)
        total = int(which[:, 1].sum())
        run(
            loops.read,
            -(-self.neurons // BLOCK),
            16 * total * self.neurons,
            array,
            which,
            offset,
            self.tokens,
            (np.float32(self.active_above), self.positions.middle),
            self.positions.borders,
            self._sums,
            self._positive,
            sums,
            self._top,
            self._where,
            grain=1,
        )
        run(loops.norms, len(which), total * self.neurons, array, which, norms)
        self.tokens += total
        for r, (row, count, text) in enumerate(which.tolist()):
            magnitudes, squares = norms[row, :count].astype(np.float64).T
            self._hoyer += float(hoyer(magnitudes, np.sqrt(squares), self.neurons).sum())
            length = lengths[found[r]]
            if offset + count < length:
                self._open[text] = sums[r]
            else:
                self._finish(sums[r] / length)

    def _finish(self, mean: Floats) -> None:
        """Add a whole text's mean."""
        self.texts += 1
        step = mean - self._text_mean
        self._text_mean += step / self.texts
        self._text_m2 += step * (mean - self._text_mean)

    @property
    def mean(self) -> Floats:
        """(d,)."""
        return self._row(MEAN)

    @property
    def variance(self) -> Floats:
        """(d,): of the population."""
        return self._row(M2) / self.tokens

    @property
    def skewness(self) -> Floats:
        """(d,): third standardised moment, NaN where the neuron does not vary."""
        return self._standardised(M3, 1.5)

    @property
    def kurtosis(self) -> Floats:
        """(d,): fourth standardised moment minus 3, NaN likewise."""
        return self._standardised(M4, 2.0) - 3.0

    @property
    def minimum(self) -> Floats:
        """(d,)."""
        return self._row(LOW)

    @property
    def maximum(self) -> Floats:
        """(d,)."""
        return self._row(HIGH)

    @property
    def mean_magnitude(self) -> Floats:
        """(d,)."""
        return self._row(MAGNITUDE) / self.tokens

    @property
    def fraction_active(self) -> Floats:
        """(d,)."""
        return self._row(ACTIVE) / self.tokens

    @property
    def fraction_positive(self) -> Floats:
        """(d,)."""
        share: Floats = self._positive.sum(0) / self.tokens
        return share

    @property
    def text_variance(self) -> Floats:
        """(d,): population variance of the texts' means."""
        return self._text_m2 / self.texts

    @property
    def hoyer_per_token(self) -> float:
        """Hoyer's measure of the vector at each token, mean over tokens; 0 of a vector of zeros."""
        return self._hoyer / self.tokens

    @property
    def position_correlation(self) -> Floats:
        """(d,): Pearson, NaN where neuron or position does not vary."""
        spread = np.sqrt(np.where(self._varies, self.variance, np.nan) * self.positions.variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self._sums[PLACE] / self.tokens / spread
        return np.clip(np.where(np.isfinite(found), found, np.nan), -1.0, 1.0)

    @property
    def position_information(self) -> Floats:
        """(d,): nats that the bin of the position tells about whether the neuron is above 0.

        I = sum_p P(p) KL(P(above | p) || P(above)); plug-in estimate.
        Source: Voita, Ferrando and Nalmpantis, "Neurons in Large Language Models: Dead, N-gram,
        Positional" (2309.04827).
        """
        tokens = self.positions.tokens[:, None]
        inside, overall = self._positive / tokens, self.fraction_positive
        found = _relative_entropy(inside, overall) + _relative_entropy(1 - inside, 1 - overall)
        information: Floats = (found * tokens).sum(0) / self.tokens
        return np.maximum(information, 0.0)

    def strongest(self, neuron: int) -> list[tuple[float, int, int]]:
        """(activation, text, position) of the kept tokens of a neuron, largest magnitude first."""
        kept = zip(self._top[neuron].tolist(), self._where[neuron].tolist(), strict=True)
        return [(value, text, position) for value, (text, position) in kept if text >= 0]

    @property
    def _varies(self) -> NDArray[np.bool_]:
        varies: NDArray[np.bool_] = self._sums[HIGH] > self._sums[LOW]
        return varies

    def _row(self, index: int) -> Floats:
        row: Floats = self._sums[index]
        return row

    def _standardised(self, moment: int, power: float) -> Floats:
        spread = np.where(self._varies, self.variance, np.nan) ** power
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self._sums[moment] / self.tokens / spread
        return np.where(np.isfinite(found), found, np.nan)


@dataclass
class StepMoments:
    """Running mean and variance of the step Delta of each of c channels, or heads."""

    channels: int
    _tokens: NDArray[np.int64] = field(init=False, repr=False)
    _sums: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._tokens = np.zeros(self.channels, np.int64)
        self._sums = np.zeros((2, self.channels))

    def read(self, step: Step, first: int, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Go on through a batch's step, of channels from `first` on; rows have `lengths` tokens."""
        x = step.before.detach().to("cpu", torch.float32).contiguous().numpy()
        which = np.array([pair for pair in zip(rows, lengths, strict=True) if pair[1] > 0])
        if not len(which):
            return
        channels = x.shape[1]
        bias = np.zeros(channels, np.float32)
        if step.bias is not None:
            bias[:] = step.bias.detach().to("cpu", torch.float32).numpy()
        total, before = int(which[:, 1].sum()), int(self._tokens[first])
        run(
            *(loops.read_steps, channels, 4 * total * channels),
            *(x, bias, step.softplus, which, before, first, self._sums),
        )
        self._tokens[first : first + channels] += total

    @property
    def mean(self) -> Floats:
        """(c,)."""
        mean: Floats = self._sums[0]
        return mean

    @property
    def variance(self) -> Floats:
        """(c,): of the population."""
        variance: Floats = self._sums[1] / self._tokens
        return variance


def _relative_entropy(inside: Floats, overall: Floats) -> Floats:
    """inside * log(inside / overall), 0 where inside is 0."""
    safe = np.where(inside > 0, inside, 1.0) / np.where(overall > 0, overall, 1.0)
    return np.where(inside > 0, inside * np.log(safe), 0.0)
