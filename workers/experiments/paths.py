"""Passes in which the neurons of one block are scaled, each row of a batch by a number of its own.

What lies below the block does not enter the graph, for the scaled neurons are its leaf.

Axes: p prompts, b rows of a batch, l tokens, d neuron of the block, k points of a path.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from catalogue.facts import path_bytes
from workers.analyses.integrated_gradients import layers_passed
from workers.experiments.answers import Question, log_probabilities
from workers.mixers.sites import Site, changing
from workers.models import rotary
from workers.models.loading import LoadedModel
from workers.numbers import Floats
from workers.padding import padded, pads_little

# What one batch takes at most: larger ones are not faster.
_BATCH_BYTES = 1 << 28


@dataclass(frozen=True)
class _Row:
    """The k-th point of a prompt's path: where its neurons are multiplied by `node`."""

    prompt: int
    k: int
    node: float


class Paths:
    """The paths from 0 to what they are of a block's neurons, for some prompts.

    positions: which neurons are scaled, those at the tokens that an answer is read from or at all.
    room: bytes that a batch of several rows may take. passing: told before a batch passes how many
    layers its rows will pass, forwards or what backwards takes as long.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        questions: Sequence[Question],
        positions: Literal["last", "all"],
        room: int,
        passing: Callable[[int], None] = lambda layers: None,
    ) -> None:
        self._loaded = loaded
        self._questions = questions
        self._last = positions == "last"
        self._room = min(room, _BATCH_BYTES)
        self._passing = passing
        self._stretching = rotary.stretching(loaded.model)

    def ends(self) -> Floats:
        """(p,): log P of each answer, no neuron changed."""
        found = np.zeros(len(self._questions))
        for rows in self._batches(np.ones((len(found), 1)), None):
            with torch.no_grad():
                found[[row.prompt for row in rows]] = self._pass(rows).cpu().numpy()
        return found

    def read(self, site: Site, points: Floats) -> Floats:
        """(p, k): log P of each answer at points (p, k) of its path, by passes without a graph."""
        found = np.zeros(points.shape)
        for rows in self._batches(points, None):
            change = partial(_times, scale=self._scale(rows))
            with torch.no_grad():
                logs = self._pass(rows, site, change)
            found[[row.prompt for row in rows], [row.k for row in rows]] = logs.cpu().numpy()
        return found

    def integrate(self, site: Site, nodes: Floats, weights: Floats) -> Floats:
        """(p, d) float64: sum over the nodes (p, k) of weight * sum over t of w dP/dw[t, d]."""
        device = self._loaded.device
        found = torch.zeros(len(nodes), site.neurons, dtype=torch.float64, device=device)
        for rows in self._batches(nodes, site):
            logs, pulls = self._gradients(rows, site)
            # dP/dw = P dlog P/dw, whose second factor does not vanish with P.
            factors = logs.exp() * logs.new_tensor([weights[row.prompt, row.k] for row in rows])
            for row, pull in zip(rows, factors[:, None] * pulls, strict=True):
                found[row.prompt] += pull
        integrals: Floats = found.cpu().numpy()
        return integrals

    def _gradients(self, rows: Sequence[_Row], site: Site) -> tuple[Tensor, Tensor]:
        """log P (b,), and the sum over the scaled neurons of w dlog P/dw (b, d), in float64."""
        scale = self._scale(rows)
        own, leaf = torch.empty(0), torch.empty(0)

        def change(neurons: Tensor) -> Tensor:
            nonlocal own, leaf
            own = neurons
            leaf = _times(neurons, scale).detach().requires_grad_()
            return leaf

        with torch.enable_grad():
            logs = self._pass(rows, site, change, back_to=site.layer)
            # Rows do not mix, so the gradient of the sum is each one's own.
            (gradient,) = torch.autograd.grad(logs.sum(), leaf)
        pulls = own.float() * gradient.float() * self._counted(rows)[..., None]
        return logs.detach(), pulls.sum(1, dtype=torch.float64)

    def _pass(
        self,
        rows: Sequence[_Row],
        site: Site | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
        back_to: int | None = None,
    ) -> Tensor:
        """(b,) float64: log P of each row's answer, in one pass of the model."""
        self._passing(len(rows) * layers_passed(len(self._loaded.description.layers), back_to))
        for module in self._stretching:
            rotary.reset(module)
        asked = self._asked(rows)
        ids = padded(question.ids for question in asked).to(self._loaded.device)
        changes = {} if site is None or change is None else {site: change}
        with changing(changes, (ids.shape[0], ids.shape[1])):
            base = self._loaded.model.base_model
            states = base(input_ids=ids, use_cache=False).last_hidden_state
        return log_probabilities(self._loaded.readout, states, asked)

    def _scale(self, rows: Sequence[_Row]) -> Tensor:
        """(b, l) float32: each row's node where neurons are scaled, else 1."""
        nodes = torch.tensor([row.node for row in rows], device=self._loaded.device)
        return torch.where(self._counted(rows), nodes[:, None], 1.0)

    def _counted(self, rows: Sequence[_Row]) -> Tensor:
        """(b, l): where neurons are scaled; the padding, which nothing reads, is no matter."""
        asked = self._asked(rows)
        at = torch.arange(max(len(question.ids) for question in asked))
        starts = torch.tensor([question.first if self._last else 0 for question in asked])
        return (at >= starts[:, None]).to(self._loaded.device)

    def _asked(self, rows: Sequence[_Row]) -> list[Question]:
        return [self._questions[row.prompt] for row in rows]

    def _batches(self, points: Floats, graph: Site | None) -> Iterator[list[_Row]]:
        """The points (p, k) as rows, shortest prompts first, in batches that fit into the room.

        graph: the block that the gradients end at.
        """
        model = self._loaded.description
        layer, neurons = (len(model.layers), 0) if graph is None else (graph.layer, graph.neurons)
        taken = cache(lambda length: path_bytes(model, layer, neurons, length))
        batch: list[_Row] = []
        answers = shortest = 0
        for prompt in sorted(range(len(points)), key=lambda p: len(self._questions[p].ids)):
            question = self._questions[prompt]
            length = len(question.ids)
            for k, node in enumerate(points[prompt].tolist()):
                answers += len(question.targets)
                fits = taken(length).of(len(batch) + 1, answers) <= self._room
                alone = bool(self._stretching) and bool(batch) and batch[0].prompt != prompt
                if batch and (alone or not fits or not pads_little(shortest, length)):
                    yield batch
                    batch, answers = [], len(question.targets)
                shortest = shortest if batch else length
                batch.append(_Row(prompt, k, node))
        if batch:
            yield batch


def _times(neurons: Tensor, scale: Tensor) -> Tensor:
    """(b, l, d) times (b, l), multiplied in float32 and rounded to the neurons' own type."""
    return (neurons * scale[..., None]).to(neurons.dtype)
