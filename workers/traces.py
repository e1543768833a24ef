"""What a tracing pass is asked of each text, and what it gives.

Axes: l tokens, m hidden size, d neurons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from schemas.problem import ProblemError
from workers.mixers import adapter_of
from workers.mixers.protocol import Capture, MixerTrace, MixerTraces
from workers.mixers.sites import Site
from workers.neuron_reading import NeuronReading


@dataclass(frozen=True)
class TraceRequest:
    """One text and its target: a position (negative counts from the end) and token ids.

    `token` None means the model's own top token at the position; `contrast` None, no contrast;
    `text` is what messages call the text, its index in the job's request; `reading` reads its
    neurons as they pass, or None.
    """

    ids: Sequence[int]
    position: int = -1
    token: int | None = None
    contrast: int | None = None
    text: int = 0
    reading: NeuronReading | None = None


@dataclass(frozen=True)
class TargetIds:
    """The explained scalar: logit[token] - logit[contrast] after the token at `position` >= 0."""

    position: int
    token: int
    contrast: int | None


@dataclass(frozen=True)
class TextTrace:
    """One text after the pass: logits (vocab,) float32 at the target position, value = target.

    attributed (d,): sum over tokens of each neuron of an MLP times d target by it, by its site.
    """

    ids: tuple[int, ...]
    target: TargetIds
    logits: Tensor
    value: float
    mixers: MixerTraces
    attributed: Mapping[Site, Tensor] = field(default_factory=dict)


Outcome = TextTrace | ProblemError
"""What became of one text."""


def traced(outcome: Outcome) -> TextTrace:
    """The trace, or the failure raised."""
    if isinstance(outcome, ProblemError):
        raise outcome
    return outcome


class LayerTraces(Mapping[int, MixerTrace]):
    """Mixer traces by layer, computed from the captures when looked up, not kept.

    A capture is a few (l, m) tensors; a trace is a dozen (l, d). So all layers of a long text fit.
    """

    def __init__(self, captures: dict[int, Capture], modules: Mapping[int, nn.Module]) -> None:
        self._captures = captures
        self._modules = modules

    def __getitem__(self, layer: int) -> MixerTrace:
        return adapter_of(self._modules[layer]).trace(self._modules[layer], self._captures[layer])

    def __iter__(self) -> Iterator[int]:
        return iter(self._captures)

    def __len__(self) -> int:
        return len(self._captures)
