"""What every mixer family gives the analyses, and what an adapter gives the tracing pass.

Axes: t query position, s key position, d channel, m hidden size, l tokens of one text.

Words, and what they correspond to in softmax attention:

- hidden attention alpha[d, t, s]: the weights of a head, but one matrix a channel, of either sign
  and not normalised;
- values x: the values, what alpha reads (the input of the scan);
- mixed y' = sum_s alpha x: the output of a head;
- gated, the neurons: y' with what bypasses the scan, times the gate; read by the output projection;
- output o: the output of the block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from schemas.names import Mixer

Weighting = tuple[Tensor | None, Tensor | None]
"""Weights p (l, d) of the queries and q (l, d) of the keys; None means ones."""


@dataclass(frozen=True)
class Contribution:
    """What each key position adds to the mixer's output at one query position t.

    norm (l,): Euclidean norm of T_t(u_s), zero for s > t.
    signed (l,): <T_t(u_s), d target / d o_t>; None where the layer's gradient was not traced.
    bias_signed: the same product for the part of o_t that belongs to no position, the biases.
    error: how far all parts together are from the model's own o_t, relative to max|o|.
    """

    norm: Tensor
    signed: Tensor | None
    bias_signed: float | None
    error: float


class MixerTrace(Protocol):
    """One mixer layer run on one text of l tokens; all tensors float32 on the model's device.

    Methods that need the gradient raise `ValueError` where the layer's was not traced.
    """

    @property
    def layer(self) -> int:
        """Index of the layer in the model."""
        ...

    @property
    def family(self) -> Mixer:
        """Which family of mixers this is."""
        ...

    @property
    def length(self) -> int:
        """l, the tokens of the text."""
        ...

    @property
    def channels(self) -> int:
        """d, the channels of the mixer, each of which is one neuron."""
        ...

    @property
    def values(self) -> Tensor:
        """(l, d): x, what hidden attention reads."""
        ...

    @property
    def output(self) -> Tensor:
        """(l, m): the mixer's output o as the model itself computed it."""
        ...

    @property
    def output_gradient(self) -> Tensor | None:
        """(l, m): d target / d o, or None where it was not traced."""
        ...

    def mixed(self, values: Tensor | None = None) -> Tensor:
        """(l, d): sum_s alpha[d, t, s] v[s, d] for v = values (l, d), None means x; linear time."""
        ...

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """(l, l) each: K[t, s] = mean_d p[t, d] q[s, d] alpha[d, t, s] for every (p, q)."""
        ...

    def row(self, query: int) -> Tensor:
        """(l, d): alpha[d, query, s] at [s, d], in linear time; zero for s > query."""
        ...

    def weighted_row(self, r: Tensor, p: Tensor | None = None, q: Tensor | None = None) -> Tensor:
        """(l,): r^T K for a vector r (l,) over queries, in linear time."""
        ...

    def moments(self, p: Tensor | None = None, q: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and std (d,) of p[t, d] q[s, d] alpha[d, t, s] over all causal pairs s <= t."""
        ...

    def channel_gradient(self) -> Tensor:
        """(l, d): g = d target / d y, with y what the mixer computes before its gate."""
        ...

    def gated(self) -> Tensor:
        """(l, d): the neurons, the vector that the output projection reads."""
        ...

    def gated_gradient(self) -> Tensor:
        """(l, d): d target / d gated = W_out^T d target / d o."""
        ...

    def contribution(self, query: int) -> Contribution:
        """The exact additive decomposition of o[query] over key positions, in linear time."""
        ...

    def rebuild(self) -> Tensor:
        """(l, m): the mixer's output rebuilt from alpha."""
        ...

    def reconstruction_error(self) -> float:
        """max|rebuilt - output| / max|output|; infinity where that is not a number."""
        ...


@dataclass(frozen=True)
class Capture:
    """What the tracing pass keeps of one mixer and one text: tensors (l, m), in the model's dtype.

    hidden is the mixer's input.
    """

    layer: int
    hidden: Tensor
    output: Tensor
    output_gradient: Tensor | None


class MixerAdapter(Protocol):
    """Knows one family of mixer modules by its names; nothing else does."""

    def layer(self, module: nn.Module) -> int:
        """Index of the layer this mixer module belongs to."""
        ...

    def objection(self, module: nn.Module) -> str | None:
        """Why this mixer has no exact trace, or None if it has one."""
        ...

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The mixer's input (b, l, m), found among the arguments of its call."""
        ...

    def trace(self, module: nn.Module, capture: Capture) -> MixerTrace:
        """Recompute what the mixer did with `capture.hidden`, from its weights, in float32."""
        ...


MixerTraces = Mapping[int, MixerTrace]
"""Traces by layer. Each look-up computes the trace afresh from its capture: take it once."""
