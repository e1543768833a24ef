"""The exact additive decomposition of one output of an SSD mixer.

    T_t(u_s) = W_out [G_t sum_k (alpha[h, t, k] + D 1[t=k]) * sigma(c_k) * w_{k-s} * u_s],

as that of an S6 mixer (see `s6_contribution`), with G_t in place of the gate: silu(z_t), the norm's
weight and its 1 / root mean square, which is frozen at what it is. Exact at the point: summed over
s, and with what the biases of convolution and output projection add, it is o[t] to rounding.

Source: the unified implicit attention of Zimerman, Ali and Wolf (2405.16504), made exact. Axes as
in `ssd`.
"""

import torch
from torch import Tensor

from workers.kernels.ssd import attention_row
from workers.mixers.convolution import convolve_back
from workers.mixers.protocol import Capture, Contribution
from workers.mixers.ssd_pieces import Piece, SSDWeights
from workers.relative_error import relative_error

# exp of less is zero in float32.
_FORGOTTEN = -104.0


class Decomposition:
    """The parts of o[query], as the text's pieces come, the one that ends with the query first."""

    def __init__(
        self, weights: SSDWeights, capture: Capture, query: int, largest_output: Tensor
    ) -> None:
        self._weights, self._query, self._largest = weights, query, largest_output
        self._output = capture.output[query].float()
        self._gradient = capture.gradient()[query].float()
        self._at_neurons = self._gradient @ weights.out_weight
        A, d = weights.A, weights.channels
        # The sum of A Delta from the end of what is still to be read up to the query.
        self._gap = torch.zeros(len(A), dtype=torch.float64, device=A.device)
        self._norm, self._signed = A.new_zeros(2, len(capture.hidden))
        # Sums over the text of what the neurons read, and of the convolution's own output.
        self._reads, self._through = A.new_zeros(2, d)
        # `through` of the tokens after the piece that the convolution of its last ones reaches.
        self._later = A.new_zeros(0, d)

    @property
    def complete(self) -> bool:
        """Whether nothing before the pieces read so far has any part in the output.

        On a GPU the answer is no: to wait for it would cost more than it saves.
        """
        forgotten = self._gap.is_cpu and bool((self._gap < _FORGOTTEN).all())
        return forgotten and not bool(self._later.any())

    def read(self, piece: Piece) -> None:
        """Add the parts of a piece's tokens."""
        weights, at = self._weights, piece.tokens
        ends_here = piece.stop == self._query + 1
        if ends_here:
            y = weights.scanned(piece)[-1:]
            self._gain = weights.gate.gain(y, piece.gate[-1:])[0]
            self._neurons = y[0] * self._gain
            self._C = piece.system.C[-1]
        alpha = attention_row(piece.system, self._C, self._gap)
        self._gap += piece.system.decay[-1]
        through = alpha.repeat_interleave(weights.head_channels, dim=1)
        if ends_here:
            through[-1] += weights.skip
        # (rows, d): (alpha[h, query, k] + D[h] 1[k=query]) sigma(c[k, d]).
        through.mul_(torch.sigmoid(piece.conv_output))
        self._through += through.sum(0)
        onwards = torch.cat([through, self._later])
        spread = convolve_back(onwards, weights.x_conv_weight)[: len(through)]
        reads = spread.mul_(piece.conv_input).mul_(self._gain)
        self._reads += reads.sum(0)
        self._norm[at] = (reads @ weights.out_weight.T).norm(dim=1)
        self._signed[at] = reads @ self._at_neurons
        self._later = onwards[: weights.taps - 1].clone()

    def contribution(self) -> Contribution:
        """All parts, and how far they are from the output that the model computed."""
        bias = self._bias(self._through * self._gain)
        total = self._reads @ self._weights.out_weight.T + bias
        difference = (total - self._output).abs().max()
        return Contribution(
            norm=self._norm,
            signed=self._signed,
            bias_signed=bias @ self._gradient,
            effect=self._at_neurons * self._neurons,
            error=relative_error(difference, self._largest),
        )

    def _bias(self, gain: Tensor) -> Tensor:
        """(m,): what the convolution's bias, passed on with `gain` (d,), and b_out add."""
        bias = self._weights.x_conv_bias
        return self._weights.output(torch.zeros_like(gain) if bias is None else gain * bias)
