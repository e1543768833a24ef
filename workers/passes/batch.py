"""What a pass over a batch of texts is given, and what it gives.

Axes: b texts, l tokens, m hidden size, p tokens of one piece, d neurons.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from workers.kernels.steps import Step
from workers.mixers.sites import Site


@dataclass(frozen=True)
class Batch:
    """What a pass computes: ids (b, l), right-padded, and the position that is read of each text.

    modules: the mixers to capture, by layer; hidden: a mixer's input among the arguments of its
    call; gradient_layers, among them: those whose output's gradient will be asked for. watch: who
    sees the neurons as the pass comes to them, or None; attributed: the MLPs whose neurons' own
    gradients will be asked for, of models that do not pass in pieces.
    """

    model: Any
    modules: Mapping[int, nn.Module]
    hidden: Mapping[int, Callable[..., Tensor]]
    gradient_layers: Sequence[int]
    ids: Tensor
    positions: Sequence[int]
    watch: "Watch | None" = None
    attributed: Sequence[Site] = ()


class Watch(Protocol):
    """Who sees neurons as a pass comes to them."""

    @property
    def sites(self) -> Sequence[Site]:
        """Whose neurons it sees."""
        ...

    def see(self, site: Site, x: Tensor, start: int, steps: Sequence[Step]) -> None:
        """Neurons x (b, p, d) of the tokens from `start` on, and the steps of a mixer's scan."""
        ...


@dataclass
class Captured:
    """Inputs and outputs (b, l, m) of the captured mixers, by layer, and their calls' keywords.

    attributed (b, l, d): neurons times d target by them, by site, after `gradients`.
    """

    hidden: dict[int, Tensor] = field(default_factory=dict)
    output: dict[int, Tensor] = field(default_factory=dict)
    keywords: dict[int, dict[str, Any]] = field(default_factory=dict)
    attributed: dict[Site, Tensor] = field(default_factory=dict)


class Pass(Protocol):
    """One pass; `gradients` comes after `read`, at most once."""

    captured: Captured

    def read(self) -> Tensor:
        """(b, m): run the model; the last hidden state at each text's position, without graph."""
        ...

    def gradients(self, outer: Tensor) -> dict[int, Tensor]:
        """d target / d output (b, l, m) of the gradient layers, from d target / d read (b, m)."""
        ...
