"""A pass of all tokens at once.

Axes: b texts, l tokens, m hidden size.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from workers.mixers.sites import Site, changing
from workers.passes.batch import Batch, Captured
from workers.passes.hooks import hooked, watching


class WholePass:
    """All tokens at once; the lowest gradient layer's output is a leaf, so nothing below it is
    in the graph.
    """

    def __init__(self, batch: Batch) -> None:
        self.captured = Captured()
        self._batch = batch
        self._neurons: dict[Site, Tensor] = {}

    def read(self) -> Tensor:
        """As `Pass.read`."""
        batch, lowest = self._batch, min(self._batch.gradient_layers, default=None)
        below = min((site.layer for site in batch.attributed), default=None)
        if lowest is not None and below is not None and below < lowest:
            lowest = None  # its own output hangs on a leaf below it
        wants_graph = bool(batch.gradient_layers or batch.attributed)
        with ExitStack() as hooks, torch.set_grad_enabled(wants_graph):
            for layer, module in batch.modules.items():
                hooks.enter_context(hooked(module, self._hook(layer, leaf=layer == lowest)))
            hooks.enter_context(watching(batch, slice(0, batch.ids.shape[1])))
            kept = {site: self._keep_neurons(site) for site in batch.attributed}
            texts, length = batch.ids.shape
            hooks.enter_context(changing(kept, (texts, length)))
            last = batch.model.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
            # Slices, not an index tensor: their backward adds in a fixed order on every device.
            self._read = torch.stack([last[row, at] for row, at in enumerate(batch.positions)])
        return self._read.detach()

    def gradients(self, outer: Tensor) -> dict[int, Tensor]:
        """As `Pass.gradients`."""
        layers = sorted(self._batch.gradient_layers)
        wanted = [self.captured.output[layer] for layer in layers]
        wanted += self._neurons.values()
        found = torch.autograd.grad(self._read, wanted, outer)
        of_neurons = zip(self._neurons.items(), found[len(layers) :], strict=True)
        with torch.no_grad():
            for (site, x), gradient in of_neurons:
                self.captured.attributed[site] = x.float() * gradient.float()
        self._neurons = {}
        return dict(zip(layers, found, strict=False))

    def _keep_neurons(self, site: Site) -> Callable[[Tensor], Tensor]:
        def keep(x: Tensor) -> Tensor:
            # What hangs on no leaf yet becomes one.
            self._neurons[site] = x if x.requires_grad else x.detach().requires_grad_()
            return self._neurons[site]

        return keep

    def _hook(self, layer: int, leaf: bool) -> Callable[..., Any]:
        def keep(module: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
            # Attention modules return their weights, or nothing, beside the output.
            output, *rest = result if isinstance(result, tuple) else (result,)
            output = output.detach().requires_grad_() if leaf else output
            self.captured.hidden[layer] = self._batch.hidden[layer](args, kwargs).detach()
            self.captured.output[layer] = output
            self.captured.keywords[layer] = kwargs
            if not leaf:
                return None
            return (output, *rest) if isinstance(result, tuple) else output

        return keep
