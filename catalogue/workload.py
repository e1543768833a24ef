"""What one model of a job does, as far as its memory goes."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from catalogue.selection import Selection, select
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import NEEDS_GRADIENT, Block, Method
from schemas.request import JobRequest
from schemas.sections import Rows
from schemas.settings import Settings


@dataclass(frozen=True)
class Workload:
    """What one model of a job does, as far as memory goes; `rows` holds the methods asked for."""

    model: ModelDescription
    selection: Selection
    lengths: Sequence[int]
    rows: Mapping[Method, Rows]
    rollout_clamp: bool
    tensors: bool
    threads: int
    on_gpu: bool = False
    top_tokens: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @property
    def methods(self) -> Collection[Method]:
        """The methods that will run: none where no layer can be read."""
        return self.rows if self.selection.layers else ()

    @property
    def traced(self) -> list[LayerDescription]:
        """The layers that are traced, in order."""
        return [self.model.layers[layer] for layer in sorted(self.selection.captured)]

    @property
    def channels(self) -> list[int]:
        """Channels of each layer that is reported."""
        return [self.model.layers[layer].channels or 0 for layer in self.selection.layers]

    @property
    def neurons(self) -> int:
        """Neurons of the layers whose neurons are read, at most."""
        layers = self.selection.neurons
        return sum(self.model.neurons_at_most(layer, of) for layer in layers for of in Block)

    @property
    def whole(self) -> set[Method]:
        """The methods whose whole matrix is read."""
        return {method for method in self.methods if self.rows[method] == "all"}


def workload(
    request: JobRequest, model: ModelDescription, lengths: Sequence[int], settings: Settings
) -> Workload:
    """What the request asks of one model whose tokenizer gives the texts these lengths."""
    section = request.attention
    methods = [] if section is None else section.methods
    device = settings.for_model(model.id).device or settings.device
    return Workload(
        model=model,
        selection=select(request, model),
        lengths=lengths,
        rows={} if section is None else {method: section.rows_of(method) for method in methods},
        rollout_clamp=section is None or section.rollout_clamp,
        tensors=request.tensors,
        threads=settings.threads or os.cpu_count() or 1,
        # Of `auto` the service knows nothing; a worker has put its own device there (`fit`).
        on_gpu=device.startswith("cuda"),
        top_tokens=0 if request.neurons is None else request.neurons.top_tokens,
    )


def without_gradient(work: Workload) -> Workload:
    """The workload without the methods that need a gradient."""
    rows = {method: rows for method, rows in work.rows.items() if method not in NEEDS_GRADIENT}
    selection = replace(work.selection, gradient=set(), attributed=set())
    return replace(work, rows=rows, selection=selection)
