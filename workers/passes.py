"""Passes of a model over a batch of texts: whole, or piece by piece in memory that stays flat.

A Mamba knows of the tokens before a piece only the convolution's last rows and the scan's state,
so its texts may pass in pieces, and so may the gradient, from the last piece back: each piece is
run again with a graph, and the gradients of what it carried in are handed to the piece before.
Both passes give the same numbers to rounding. Slow twin of the pieces: the whole pass.

Axes: b texts, l tokens, m hidden size, p tokens of one piece.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import Mamba2Model, MambaModel

from schemas.pieces import borders, pass_tokens
from workers.kernels.carried import Border, Carried
from workers.kernels.selective_scan import handles
from workers.kernels.steps import Step, hearing
from workers.mixers.sites import Site, changing, reading

# Models of state-space mixers alone, whose code takes a cache from one piece to the next;
# `catalogue.passing` counts on the same.
_PIECEWISE = (MambaModel, Mamba2Model)


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


def pass_over(batch: Batch) -> Pass:
    """The pass for this model and these texts; pieces where they save memory."""
    base, (texts, length) = batch.model.base_model, batch.ids.shape
    if not in_pieces(batch.model):
        return WholePass(batch)
    blocks = len(base.layers) - min(batch.gradient_layers, default=len(base.layers))
    piece = pass_tokens(base.config.hidden_size, blocks, texts)
    return WholePass(batch) if length <= piece else PiecewisePass(batch, piece)


def in_pieces(model: Any) -> bool:
    """Whether long texts of a model can pass in pieces."""
    base = model.base_model
    return type(base) in _PIECEWISE and handles(base.embeddings.weight)


@torch.no_grad()
def states_over(
    model: Any, ids: Tensor, around: Callable[[slice], AbstractContextManager[object]]
) -> Iterator[tuple[slice, Tensor]]:
    """Run a model on ids (b, l); its last hidden states (b, p, m), a piece of the tokens at a time.

    `around` is entered while the tokens of a piece pass. Memory: what one piece takes.
    """
    texts, length = ids.shape
    size = pass_tokens(model.config.hidden_size, 0, texts) if in_pieces(model) else length
    before = Border()
    for start, stop in borders(length, size):
        tokens, carried = slice(start, stop), Carried(before)
        cache = {} if size >= length else {"cache_params": carried}
        with carried.active() if cache else nullcontext(), around(tokens):
            states = model.base_model(input_ids=ids[:, tokens], use_cache=False, **cache)
        before = carried.after
        yield tokens, states.last_hidden_state


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
                hooks.enter_context(_hooked(module, self._hook(layer, leaf=layer == lowest)))
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
                    hooks.enter_context(_hooked(module, self._capture(layer, tokens)))
                hooks.enter_context(watching(batch, tokens))
                if self._layers:
                    self._borders.append(before.above(self._layers[0]))
                    block = self._base.layers[self._layers[0]]
                    hooks.enter_context(_hooked(block, self._keep_stream(tokens)))
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
                hooks.enter_context(_hooked(self._batch.modules[layer], keep))
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


@contextmanager
def watching(batch: Batch, tokens: slice) -> Iterator[None]:
    """Let who watches see the neurons of the tokens that pass inside."""
    watch = batch.watch
    if watch is None:
        yield
        return
    with ExitStack() as hooks:
        steps = hooks.enter_context(hearing())
        for site in watch.sites:
            if site.mixer is not None:
                handle = site.mixer.register_forward_pre_hook(lambda *_: steps.listen())
                hooks.callback(handle.remove)

        def see(site: Site, x: Tensor) -> None:
            found = [] if site.mixer is None else steps.take()
            watch.see(site, x.detach(), tokens.start, found)

        shape = (batch.ids.shape[0], tokens.stop - tokens.start)
        hooks.enter_context(reading(watch.sites, shape, see))
        yield


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _keep_output(outputs: dict[int, Tensor], layer: int) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        outputs[layer] = output

    return keep


def _blocks_above(base: Any, layer: int) -> Any:
    """The same model without its blocks up to `layer`; all modules are shared with it."""
    upper = copy.copy(base)
    upper._modules = {**base._modules, "layers": base.layers[layer + 1 :]}
    return upper
