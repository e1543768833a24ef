"""The exact additive decomposition of one output of an S6 mixer.

    T_t(u_s) = W_out [silu(z_t) sum_k (alpha[:, t, k] + D 1[t=k]) * sigma(c_k) * w_{k-s} * u_s],

with u the convolution's input, c its output, w_{k-s} its weight at lag k - s and sigma the logistic
function: x = silu(c) = c sigma(c), and c is linear in u. Summed over s, and with what the biases of
convolution and output projection add, it is o[t] to rounding.

Source: the unified implicit attention of Zimerman, Ali and Wolf (2405.16504), made exact. Axes as
in `s6`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from workers.kernels.hidden_attention import forgotten
from workers.mixers.convolution import convolve_back
from workers.mixers.protocol import Capture, Contribution
from workers.mixers.s6_heads import alpha_before, heads_of
from workers.mixers.s6_pieces import Piece, S6Weights
from workers.relative_error import relative_error


class Decomposition:
    """The parts of o[query], as the text's pieces come, the one that ends with the query first."""

    def __init__(
        self, weights: S6Weights, capture: Capture, query: int, largest_output: Tensor
    ) -> None:
        self._weights, self._query, self._largest = weights, query, largest_output
        self._output = capture.output[query].float()
        self._gradient = capture.gradient()[query].float()
        self._at_neurons = self._gradient @ weights.out_weight
        A = weights.A
        self._gap = torch.zeros(len(A), dtype=torch.float64, device=A.device)
        self._norm, self._signed = A.new_zeros(2, len(capture.hidden))
        # Sums over the text of what the neurons read, of x and of the convolution's own output.
        self._reads, self._mixed, self._through = A.new_zeros(3, len(A))
        # `through` of the tokens after the piece that the convolution of its last ones reaches.
        self._later = A.new_zeros(0, len(A))

    @property
    def complete(self) -> bool:
        """Whether nothing before the pieces read so far has any part in the output."""
        return forgotten(self._weights.A, self._gap) and not bool(self._later.any())

    def read(self, piece: Piece) -> None:
        """Add the parts of a piece's tokens."""
        weights, at = self._weights, piece.tokens
        if piece.stop == self._query + 1:
            self._open = functional.silu(piece.gate[-1])
            self._C, self._skipped = piece.C[-1], weights.D * piece.x[-1]
        alpha = alpha_before(heads_of(weights, piece), self._C, self._gap)
        self._mixed += (alpha * piece.x).sum(0)
        if piece.stop == self._query + 1:
            alpha[-1] += weights.D
        # (rows, d): (alpha[d, query, k] + D[d] 1[k=query]) sigma(c[k, d]).
        through = alpha.mul_(torch.sigmoid(piece.conv_output))
        self._through += through.sum(0)
        onwards = torch.cat([through, self._later])
        spread = convolve_back(onwards, weights.conv_weight)[: len(through)]
        reads = spread.mul_(piece.conv_input).mul_(self._open)
        self._reads += reads.sum(0)
        self._norm[at] = (reads @ weights.out_weight.T).norm(dim=1)
        self._signed[at] = reads @ self._at_neurons
        self._later = onwards[: weights.taps - 1].clone()

    def contribution(self) -> Contribution:
        """All parts, and how far they are from the output that the model computed."""
        bias = self._bias(self._through * self._open)
        total = self._reads @ self._weights.out_weight.T + bias
        difference = (total - self._output).abs().max()
        return Contribution(
            norm=self._norm,
            signed=self._signed,
            bias_signed=bias @ self._gradient,
            effect=self._at_neurons * (self._mixed + self._skipped) * self._open,
            error=relative_error(difference, self._largest),
        )

    def _bias(self, gain: Tensor) -> Tensor:
        """(m,): what the convolution's bias, passed on with `gain` (d,), and b_out add."""
        bias = self._weights.conv_bias
        return self._weights.output(torch.zeros_like(gain) if bias is None else gain * bias)
