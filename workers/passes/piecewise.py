"""A pass piece by piece, in memory that stays flat.

A Mamba knows of the tokens before a piece only the convolution's last rows and the scan's state,
so its texts may pass in pieces, and so may the gradient, from the last piece back: each piece is
run again with a graph, and the gradients of what it carried in are handed to the piece before.
The same numbers as the whole pass, its slow twin, to rounding.

Axes: b texts, l tokens, m hidden size.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from workers.kernels.carried import Border, Carried
from workers.passes.batch import Batch, Captured
from workers.passes.hooks import hooked, watching


class PiecewisePass:
    """Pieces of `piece` tokens of every text, with what a Mamba carries over their borders.

    Memory beyond the captures (b, l, m): the activations of one piece; with gradients also the
    graph of one piece, what each border carries, and one (b, l, m) stream of hidden states.
    Gradients cost one more forward pass of the blocks above the lowest gradient layer.
    """

    def __init__(self, batch: Batch, piece: int) -> None:
        self.captured = Captured()
        self._batch, self._base = batch, batch.model.base_model
        self._layers = sorted(batch.gradient_layers)
        length = batch.ids.shape[1]
        self._pieces = [slice(s, min(s + piece, length)) for s in range(0, length, piece)]
        # What the blocks above the lowest gradient layer start each piece from.
        self._borders: list[Border] = []
        # The hidden states (b, l, m) between that layer's block and the next.
        self._stream: dict[int, Tensor] = {}

    @torch.no_grad()
    def read(self) -> Tensor:
        """As `Pass.read`."""
        batch, before = self._batch, Border()
        found: dict[int, Tensor] = {}
        for tokens in self._pieces:
            carried = Carried(before)
            with ExitStack() as hooks, carried.active():
                for layer, module in batch.modules.items():
                    hooks.enter_context(hooked(module, self._capture(layer, tokens)))
                hooks.enter_context(watching(batch, tokens))
                if self._layers:
                    self._borders.append(before.above(self._layers[0]))
                    block = self._base.layers[self._layers[0]]
                    hooks.enter_context(hooked(block, self._keep_stream(tokens)))
                states = self._base(
                    input_ids=batch.ids[:, tokens], cache_params=carried, use_cache=False
                )
            for row, at in self._reads(tokens):
                found[row] = states.last_hidden_state[row, at].clone()
            before = carried.after
        return torch.stack([found[row] for row in range(len(found))])

    def gradients(self, outer: Tensor) -> dict[int, Tensor]:
        """As `Pass.gradients`."""
        found = {layer: torch.zeros_like(self.captured.output[layer]) for layer in self._layers}
        upper = _blocks_above(self._base, self._layers[0])
        # d target / d what a piece leaves to the next: nothing after the last position read.
        later = Border()
        for tokens, border in zip(self._pieces[::-1], self._borders[::-1], strict=True):
            if not later.tensors() and not any(self._reads(tokens)):
                continue
            piece, later = self._piece(upper, tokens, border, outer, later)
            for layer, gradient in piece.items():
                found[layer][:, tokens] = gradient
        return found

    def _piece(
        self, upper: nn.Module, tokens: slice, before: Border, outer: Tensor, later: Border
    ) -> tuple[dict[int, Tensor], Border]:
        """One piece run again with a graph: its gradients, and those of what it started from."""
        # A block adds its mixer's output to the stream, so both have the same gradient.
        stream = self._stream[self._layers[0]][:, tokens].detach().requires_grad_()
        outputs = {self._layers[0]: stream}
        carried = Carried(before.map(lambda kept: kept.detach().requires_grad_()))
        with ExitStack() as hooks, carried.active(), torch.enable_grad():
            for layer in self._layers[1:]:
                keep = _keep_output(outputs, layer)
                hooks.enter_context(hooked(self._batch.modules[layer], keep))
            states = upper(inputs_embeds=stream, cache_params=carried, use_cache=False)
            last = states.last_hidden_state
            reads = list(self._reads(tokens))
            ends = [last[row, at] for row, at in reads]
        results = [*ends, *(carried.after.tensors() if later.tensors() else [])]
        given = [*(outer[row] for row, _ in reads), *later.tensors()]
        wanted = [*outputs.values(), *carried.before.tensors()]
        # The last mixer's output has no part in what the piece leaves behind.
        found = torch.autograd.grad(results, wanted, given, materialize_grads=True)
        rest = iter(found[len(outputs) :])
        earlier = carried.before.map(lambda _: next(rest))
        return dict(zip(outputs, found, strict=False)), earlier

    def _reads(self, tokens: slice) -> Iterator[tuple[int, int]]:
        """(text, position within the piece) of the positions that are read in this piece."""
        for row, at in enumerate(self._batch.positions):
            if tokens.start <= at < tokens.stop:
                yield row, at - tokens.start

    def _capture(self, layer: int, tokens: slice) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            self._store(
                self.captured.hidden, layer, tokens, self._batch.hidden[layer](args, kwargs)
            )
            self._store(self.captured.output, layer, tokens, output)

        return keep

    def _keep_stream(self, tokens: slice) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            self._store(self._stream, self._layers[0], tokens, output)

        return keep

    def _store(self, kept: dict[int, Tensor], layer: int, tokens: slice, value: Tensor) -> None:
        if layer not in kept:
            kept[layer] = value.new_empty(*self._batch.ids.shape, value.shape[2])
        kept[layer][:, tokens] = value


def _keep_output(outputs: dict[int, Tensor], layer: int) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        outputs[layer] = output

    return keep


def _blocks_above(base: Any, layer: int) -> Any:
    """The same model without its blocks up to `layer`; all modules are shared with it."""
    upper = copy.copy(base)
    upper._modules = {**base._modules, "layers": base.layers[layer + 1 :]}
    return upper
