"""What every method returns, and what it reads.

Axes: t query, s key, d channel, l tokens of one text; tau is the target's position.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from schemas.result import Parameters
from workers.analyses.checks import row_sum_error
from workers.mixers.protocol import MixerTrace, Weighting

ContributionRows = Literal["target", "all"]
_MEAN: Weighting = (None, None)


@dataclass(frozen=True)
class MethodMaps:
    """One layer of one text under one method; every tensor signed unless the method says not.

    matrix (rows, l): row i belongs to query_positions[i] and is zero for s after it.
    token_relevance (l,). signed_relevance (l,) and bias_relevance, what belongs to no token, or
    None where the method has none.
    neuron_activation (d,), neuron_importance (d,).
    row_sum_error: self-check of the matrix against what its rows must add up to.
    """

    parameters: Parameters
    query_positions: list[int]
    matrix: Tensor
    token_relevance: Tensor
    signed_relevance: Tensor | None
    neuron_activation: Tensor
    neuron_importance: Tensor
    row_sum_error: float
    bias_relevance: float | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What the method defines, by the names that `tensors.safetensors` uses."""
        found = {
            "matrix": self.matrix,
            "token_relevance": self.token_relevance,
            "neuron_activation": self.neuron_activation,
            "neuron_importance": self.neuron_importance,
        }
        if self.signed_relevance is not None:
            found["signed_relevance"] = self.signed_relevance
        return found


@dataclass(frozen=True)
class MeanAttention:
    """Abar (l, l), the hidden attention averaged over channels, and its self-check."""

    matrix: Tensor
    row_sum_error: float


@dataclass(frozen=True)
class Rollout:
    """R_l (l, l), attention through all mixer layers up to one, and the worst check on the way."""

    matrix: Tensor
    row_sum_error: float


@dataclass(frozen=True)
class LayerView:
    """One layer as the methods see it; what several of them need is computed once.

    `below` is the rollout of the mixer layers below this one, None at the lowest. `both_matrices`:
    whether methods will read the mean attention and its gradient's, so that one pass computes them.
    """

    mixer: MixerTrace
    position: int
    contribution_rows: ContributionRows = "target"
    rollout_clamp: bool = True
    below: Rollout | None = None
    both_matrices: bool = False

    @cached_property
    def mean_attention(self) -> MeanAttention:
        """Abar, checked: its row sums are the scan run on ones, averaged over channels."""
        matrix = self._both[0] if self.both_matrices else self.mixer.matrices([_MEAN])[0]
        ones = self.mixer.values.new_ones(self.mixer.length, self.mixer.channels)
        expected = self.mixer.mixed(ones).mean(1)
        return MeanAttention(matrix, row_sum_error(matrix, expected))

    @cached_property
    def gradient_attention(self) -> Tensor:
        """(l, l): mean_d g[t, d] x[s, d] alpha[d, t, s]; ValueError if g was not traced."""
        return self._both[1] if self.both_matrices else self.mixer.matrices([self._gradient])[0]

    @cached_property
    def _both(self) -> list[Tensor]:
        return self.mixer.matrices([_MEAN, self._gradient])

    @property
    def _gradient(self) -> Weighting:
        return self.mixer.channel_gradient(), self.mixer.values

    @cached_property
    def mixed(self) -> Tensor:
        """(l, d): y' = sum_s alpha x."""
        return self.mixer.mixed()


Analysis = Callable[[LayerView], MethodMaps]
"""A method: a function of one layer's view."""
