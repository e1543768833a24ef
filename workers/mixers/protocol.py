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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from torch import Tensor, nn

from schemas.names import Mixer


class Weighting(Enum):
    """The weights p and q of K[t, s] = mean_d p[t, d] q[s, d] alpha[d, t, s]."""

    PLAIN = "hidden attention: p = q = 1"
    GRADIENT = "gradient times attention: p = d target / d y, before the gate, and q = x"


@dataclass(frozen=True)
class Summary:
    """What one pass over a text from its start finds, in time linear in l.

    reconstruction_error: max|rebuilt - output| / max|output|, the output rebuilt from alpha, a
    tensor of no axes; infinity where that is not a number. mean_mixed (d,): mean_t y'[t, d].
    row_sums: sum_s K[t, s] (l,), always of PLAIN; added (l,), what their rounding is relative to:
    magnitudes of parts that may have cancelled in them. spreads: std (d,) of p q alpha over all
    causal pairs s <= t. pulled (d,): sum_t p[t, d] y'[t, d] of GRADIENT, None where not asked for.
    attributed (d,): sum_t of each neuron times d target by it, None where not asked for.
    """

    reconstruction_error: Tensor
    mean_mixed: Tensor
    row_sums: Mapping[Weighting, Tensor]
    added: Mapping[Weighting, Tensor]
    spreads: Mapping[Weighting, Tensor]
    pulled: Tensor | None
    attributed: Tensor | None = None


@dataclass(frozen=True)
class Read:
    """Rows r (k, l), weights over queries, by which the matrix of a weighting is to be read."""

    rows: Tensor
    weighting: Weighting


@dataclass(frozen=True)
class Contribution:
    """What each key position adds to the mixer's output at one query position t.

    norm (l,): Euclidean norm of T_t(u_s), zero for s > t.
    signed (l,): <T_t(u_s), d target / d o_t>.
    bias_signed: the same product for the part of o_t that belongs to no position, the biases; no
    axes, as the error.
    effect (d,): each neuron's activation at t times d target by it.
    error: how far all parts together are from the model's own o_t, relative to max|o|.
    """

    norm: Tensor
    signed: Tensor
    bias_signed: Tensor
    effect: Tensor
    error: Tensor


class MixerTrace(Protocol):
    """One mixer layer run on one text of l tokens; all tensors float32 on the model's device.

    What needs the gradient, GRADIENT and `contributions`, raises `ValueError` where the layer's was
    not traced. Only `matrices`, and `contributions` of several queries, hold more of the text than
    a piece at a time.
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

    def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
        """What one pass over the text finds, with the spread of each weighting asked for.

        `attributed` asks for the neurons' attribution, which like GRADIENT needs the gradient.
        """
        ...

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """K (l, l) of each weighting."""
        ...

    def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
        """r K (k, l) for each read, without K, in one pass backwards; r is zero from `stop` on."""
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """(k, d): sum_s r[k, s] x[s, d] for rows r (k, l) over keys."""
        ...

    def contributions(self, queries: Sequence[int]) -> Iterator[Contribution]:
        """The exact additive decomposition of o[query] over key positions; linear time a query."""
        ...


@dataclass(frozen=True)
class Capture:
    """What the tracing pass keeps of one mixer and one text: tensors (l, m), in the model's dtype.

    hidden is the mixer's input; context, what else its call was made with, as far as its adapter
    asks for it.
    """

    layer: int
    hidden: Tensor
    output: Tensor
    output_gradient: Tensor | None
    context: Mapping[str, Any] = field(default_factory=dict)

    def gradient(self) -> Tensor:
        """The output's gradient, for what needs it. Raises ValueError where it was not traced."""
        if self.output_gradient is None:
            raise ValueError(f"the gradient at layer {self.layer} was not traced")
        return self.output_gradient


class MixerAdapter(Protocol):
    """Knows one class of mixer modules, or several alike, by the names of their parts."""

    def layer(self, module: nn.Module) -> int:
        """Index of the layer this mixer module belongs to."""
        ...

    def objection(self, module: nn.Module) -> str | None:
        """Why this mixer has no exact trace, or None if it has one."""
        ...

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The mixer's input (b, l, m), found among the arguments of its call."""
        ...

    def projection(self, module: nn.Module) -> nn.Module | None:
        """The mixer's output projection, which reads its neurons, or None if it is not known."""
        ...

    def context(self, kwargs: Mapping[str, Any], row: int, length: int) -> Mapping[str, Any]:
        """What a trace needs of the keywords of a batch's call, cut to one text of `length`."""
        ...

    def trace(self, module: nn.Module, capture: Capture) -> MixerTrace:
        """What the mixer did with `capture.hidden`, to be read in float32.

        Raises ValueError, TypeError or KeyError: the module is not what the adapter knows.
        """
        ...


MixerTraces = Mapping[int, MixerTrace]
"""Traces by layer. Each look-up computes the trace afresh from its capture: take it once."""
