"""Knowledge neurons: those along which the probability of a fact's answer is built up.

One block at a time, the neurons w of a prompt are scaled together from 0 to what they are, and the
gradient of the answer's probability P is integrated along the way:

    Attr[d] = sum over t of w[t, d] * integral over 0..1 of dP/dw[t, d] at (alpha w), d alpha

so that the attributions of a block add up to P(w) - P(0). The steps of the integral are rows of a
batch. Source: Dai et al., "Knowledge Neurons in Pretrained Transformers" (2104.08696).

Axes: p prompts, b rows of a batch, l tokens, d neuron of a block, n neurons of all the blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from catalogue.facts import path_bytes
from schemas.names import Block
from schemas.neurons import (
    FactNeurons,
    FactOverlap,
    KnowledgeNeuron,
    KnowledgeNeuronAnalysis,
    PromptKnowledge,
)
from schemas.problem import FieldError, ProblemError, ProblemType
from schemas.sections import KnowledgeNeuronSection
from workers.analyses.integrated_gradients import (
    Array,
    agreed,
    completeness_gap,
    named,
    overlaps,
    quadrature,
)
from workers.experiments.answers import Question, log_probabilities, padded, questions_of
from workers.mixers.sites import Site, changing, sites_of
from workers.models import rotary
from workers.models.loading import LoadedModel

# Attributions that are held at once, of the facts that pass together.
_HELD_BYTES = 1 << 26

Tell = Callable[[float, str], None]
"""Told how much is done, of 1, and what is being done; may raise to end it."""


def find_knowledge_neurons(
    loaded: LoadedModel,
    section: KnowledgeNeuronSection,
    layers: Sequence[int],
    room: int,
    tell: Tell,
) -> KnowledgeNeuronAnalysis:
    """The neurons of these layers that carry each fact of the section.

    A layer without neurons that can be read is skipped. Costs, of each prompt and block, one
    forward and backward pass of `steps` + 1 rows, and one more forward pass of each prompt; a batch
    of several rows takes at most `room` bytes.

    Raises:
        ProblemError: not-finite, naming the fact for which the model computes infinities or NaN.
        ValueError: a prompt that its answer does not continue.
    """
    sites = sites_of(loaded.model, layers, section.blocks or tuple(Block))
    facts = [questions_of(loaded.tokeniser, fact, i) for i, fact in enumerate(section.facts)]
    search = _Search(loaded, section, sites, room)
    prompts, done = sum(map(len, facts)), 0
    found: list[FactNeurons] = []
    for group in _groups(facts, search.neurons):
        questions = [question for fact in group for question in fact]

        def told(share: float, what: str, before: int = done, now: int = len(questions)) -> None:
            tell((before + share * now) / prompts, what)

        measured = search.measure(questions, told)
        done += len(questions)
        for fact in group:
            at = [i for i, question in enumerate(questions) if question.fact == fact[0].fact]
            found.append(search.fact(fact, measured.of(at)))
    return KnowledgeNeuronAnalysis(model=loaded.name, facts=found, overlaps=_overlaps(found))


def _groups(facts: Sequence[list[Question]], neurons: int) -> Iterator[list[list[Question]]]:
    """Facts that pass together: as many as whose attributions may be held, at least one."""
    most = _HELD_BYTES // (8 * max(neurons, 1))
    group: list[list[Question]] = []
    for fact in facts:
        if group and sum(map(len, group)) + len(fact) > most:
            yield group
            group = []
        group.append(fact)
    yield group


@dataclass(frozen=True)
class _Measured:
    """Of p prompts: log P (p,), the attributions (p, n) and the worst block's gap (p,)."""

    logs: Array
    attributions: Array
    gaps: Array

    def of(self, prompts: list[int]) -> "_Measured":
        return _Measured(self.logs[prompts], self.attributions[prompts], self.gaps[prompts])


@dataclass(frozen=True)
class _Row:
    """One point of a prompt's path: its neurons times `node`, which counts with `weight`."""

    prompt: int
    node: float
    weight: float


class _Search:
    """One model, the blocks that are looked at, and what is asked."""

    def __init__(
        self,
        loaded: LoadedModel,
        section: KnowledgeNeuronSection,
        sites: Sequence[Site],
        room: int,
    ) -> None:
        self._loaded = loaded
        self._section = section
        self._sites = sites
        self._room = room
        self._stretching = rotary.stretching(loaded.model)
        nodes, weights = quadrature(section.steps)
        # The path's own start, whose gradient does not count.
        self._path = [(0.0, 0.0), *zip(nodes.tolist(), weights.tolist(), strict=True)]
        self.neurons = sum(site.neurons for site in sites)

    def measure(self, questions: Sequence[Question], tell: Tell) -> _Measured:
        """The probabilities of the answers, and what every block adds to them."""
        logs = self._as_they_are(questions)
        attributions = np.zeros((len(questions), self.neurons))
        gaps, start = np.zeros(len(questions)), 0
        for index, site in enumerate(self._sites):
            share = index / len(self._sites)
            tell(share, f"{self._loaded.name}: layer {site.layer}, {site.block}")
            without, found = self._along(questions, site)
            for prompt, values in enumerate(found):
                ends = float(np.exp(logs[prompt])), float(np.exp(without[prompt]))
                gap = completeness_gap(float(values.sum()), *ends)
                gaps[prompt] = max(gaps[prompt], gap)
            attributions[:, start : start + site.neurons] = found
            start += site.neurons
        return _Measured(logs, attributions, gaps)

    def fact(self, questions: Sequence[Question], measured: _Measured) -> FactNeurons:
        """What the prompts of one fact have found."""
        names = named(measured.attributions, self._section.threshold)
        means, shares = measured.attributions.mean(0), names.mean(0)
        chosen = np.flatnonzero(agreed(names, self._section.share))
        # A stable sort: of equals the one that a pass comes to first.
        chosen = chosen[np.argsort(-means[chosen], kind="stable")]
        neurons = []
        for n in chosen.tolist():
            site, neuron = self._neuron(n)
            neurons.append(
                KnowledgeNeuron(
                    layer=site.layer,
                    block=site.block,
                    neuron=neuron,
                    attribution=float(means[n]),
                    prompts=float(shares[n]),
                )
            )
        per_layer = {site.layer: 0 for site in self._sites}
        for each in neurons:
            per_layer[each.layer] += 1
        index = questions[0].fact
        return FactNeurons(
            fact=index,
            answer=self._section.facts[index].answer,
            answer_tokens=[self._loaded.tokeniser.string(t) for t in questions[0].targets],
            prompts=[
                PromptKnowledge(
                    prompt=question.prompt,
                    probability=float(np.exp(log)),
                    log_probability=float(log),
                    completeness_gap=float(gap),
                )
                for question, log, gap in zip(questions, measured.logs, measured.gaps, strict=True)
            ],
            neurons=neurons,
            per_layer=per_layer,
        )

    def _neuron(self, n: int) -> tuple[Site, int]:
        """The block of the n-th neuron of all, and its index there."""
        for site in self._sites:
            if n < site.neurons:
                return site, n
            n -= site.neurons
        raise IndexError(n)

    @torch.no_grad()
    def _as_they_are(self, questions: Sequence[Question]) -> Array:
        """(p,): log P of each answer, no neuron changed."""
        logs = np.zeros(len(questions))
        every = [_Row(prompt, 1.0, 0.0) for prompt in range(len(questions))]
        for rows in self._batches(questions, every, len(self._loaded.description.layers), 0):
            asked = [questions[row.prompt] for row in rows]
            for row, log in zip(rows, self._pass(asked).tolist(), strict=True):
                logs[row.prompt] = log
        self._require_finite(questions, logs)
        return logs

    def _along(self, questions: Sequence[Question], site: Site) -> tuple[Array, Array]:
        """(p,), (p, d): log P with a block's neurons at 0, and their attributions."""
        without = np.zeros(len(questions))
        found = torch.zeros(len(questions), site.neurons, dtype=torch.float64)
        found = found.to(self._loaded.device)
        every = [_Row(p, *point) for p in range(len(questions)) for point in self._path]
        for rows in self._batches(questions, every, site.layer, site.neurons):
            asked = [questions[row.prompt] for row in rows]
            logs, pulls = self._scaled(asked, site, [row.node for row in rows])
            # dP/dw = P dlog P/dw, whose second factor does not vanish with P.
            factors = logs.exp() * logs.new_tensor([row.weight for row in rows])
            at = torch.tensor([row.prompt for row in rows], device=found.device)
            found.index_add_(0, at, factors[:, None] * pulls)
            for row, log in zip(rows, logs.tolist(), strict=True):
                if not row.weight:
                    without[row.prompt] = log
        attributions: Array = found.cpu().numpy()
        self._require_finite(questions, without + attributions.sum(1))
        return without, attributions

    def _scaled(
        self, rows: Sequence[Question], site: Site, nodes: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Pass with each row's counted neurons times its node.

        Returns log P (b,), and the sum over these neurons (b, d) of w dlog P/dw, both float64.
        """
        counted = self._counted(rows)
        scale = torch.where(counted, counted.new_tensor(nodes, dtype=torch.float32)[:, None], 1.0)
        own: list[Tensor] = []

        def change(neurons: Tensor) -> Tensor:
            neurons = neurons.detach()
            scaled = (neurons * scale[..., None]).to(neurons.dtype).requires_grad_()
            own[:] = neurons, scaled
            return scaled

        with torch.enable_grad():
            logs = self._pass(rows, {site: change})
            neurons, scaled = own
            # Rows do not mix, so the gradient of the sum is each one's own.
            (gradient,) = torch.autograd.grad(logs.sum(), scaled)
        pulled = neurons.float() * gradient.float() * counted[..., None]
        return logs.detach(), pulled.sum(1, dtype=torch.float64)

    def _pass(
        self,
        rows: Sequence[Question],
        changes: dict[Site, Callable[[Tensor], Tensor]] | None = None,
    ) -> Tensor:
        """(b,): log P of each row's answer, in one pass of the model."""
        for module in self._stretching:
            rotary.reset(module)
        ids = padded(rows).to(self._loaded.device)
        with changing(changes or {}, (ids.shape[0], ids.shape[1])):
            base = self._loaded.model.base_model
            states = base(input_ids=ids, use_cache=False).last_hidden_state
        return log_probabilities(self._loaded.readout, states, rows)

    def _counted(self, rows: Sequence[Question]) -> Tensor:
        """(b, l): where neurons count, and nowhere in the padding."""
        at = torch.arange(max(len(row.ids) for row in rows))
        last = self._section.positions == "last"
        starts = torch.tensor([row.first if last else 0 for row in rows])
        stops = torch.tensor([len(row.ids) for row in rows])
        counted = (at >= starts[:, None]) & (at < stops[:, None])
        return counted.to(self._loaded.device)

    def _batches(
        self, questions: Sequence[Question], rows: Sequence[_Row], lowest: int, neurons: int
    ) -> Iterator[list[_Row]]:
        """The rows, shortest prompts first, in batches that fit and are padded to below twice."""
        batch: list[_Row] = []
        for row in sorted(rows, key=lambda row: len(questions[row.prompt].ids)):
            question = questions[row.prompt]
            if batch:
                first = questions[batch[0].prompt]
                alone = self._stretching and batch[0].prompt != row.prompt
                taken = path_bytes(self._loaded.description, lowest, neurons, len(question.ids))
                answers = sum(len(questions[each.prompt].targets) for each in batch)
                fits = taken.of(len(batch) + 1, answers + len(question.targets)) <= self._room
                if alone or not fits or len(question.ids) > 2 * len(first.ids) + 16:
                    yield batch
                    batch = []
            batch.append(row)
        if batch:
            yield batch

    def _require_finite(self, questions: Sequence[Question], numbers: Array) -> None:
        """Raise ProblemError(NOT_FINITE) naming the first fact whose numbers (p,) are not."""
        if np.isfinite(numbers).all():
            return
        question = questions[int(np.flatnonzero(~np.isfinite(numbers))[0])]
        detail = (
            f"`{self._loaded.name}` computes infinities or NaN for fact {question.fact}, after "
            f"{question.prompt[:80]!r}. Check the model's weights, or leave this fact out."
        )
        pointer = f"/knowledge_neurons/facts/{question.fact}"
        raise ProblemError(
            ProblemType.NOT_FINITE, detail, [FieldError(pointer=pointer, detail=detail)]
        )


def _overlaps(facts: Sequence[FactNeurons]) -> list[FactOverlap]:
    sets = [frozenset((each.layer, each.block, each.neuron) for each in f.neurons) for f in facts]
    return [
        FactOverlap(facts=(one, other), jaccard=jaccard, shared=shared)
        for one, other, shared, jaccard in overlaps(sets)
    ]
