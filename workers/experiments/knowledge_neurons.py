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
    SURVEY,
    Array,
    agreed,
    completeness_gap,
    named,
    overlaps,
    quadrature,
)
from workers.experiments.answers import Question, questions_of
from workers.experiments.paths import Paths
from workers.mixers.sites import Site, sites_of
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

    A layer without neurons that can be read is skipped. Costs, of each prompt and block, 12 passes
    forward, then `steps` forward and, from the last layer to the block, backward; a batch of
    several of them takes at most `room` bytes.

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
    return KnowledgeNeuronAnalysis(
        model=loaded.name,
        facts=found,
        overlaps=_overlaps(found),
        unavailable_reason=_reason(loaded.name, section, sites),
    )


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
        self.neurons = sum(site.neurons for site in sites)

    def measure(self, questions: Sequence[Question], tell: Tell) -> _Measured:
        """The probabilities of the answers, and what every block adds to them."""
        paths = Paths(self._loaded, questions, self._section.positions, self._room)
        tell(0.0, f"{self._loaded.name}: the facts' answers")
        logs = paths.ends()
        self._require_finite(questions, logs)
        parts, gaps = [], np.zeros(len(questions))
        for index, site in enumerate(self._sites):
            share = index / len(self._sites)
            tell(share, f"{self._loaded.name}: {site.block} of layer {site.layer}")
            part, gap = self._block(questions, paths, site, logs)
            parts.append(part)
            gaps = np.maximum(gaps, gap)
        attributions = np.concatenate([np.zeros((len(questions), 0)), *parts], axis=1)
        return _Measured(logs, attributions, gaps)

    def _block(
        self, questions: Sequence[Question], paths: Paths, site: Site, logs: Array
    ) -> tuple[Array, Array]:
        """(p, d), (p,): the attributions of one block, and their gaps."""
        inner = np.tile(SURVEY[:-1], (len(questions), 1))
        surveyed = np.concatenate([paths.read(site, inner), logs[:, None]], axis=1)
        self._require_finite(questions, surveyed)
        probabilities = np.exp(surveyed)
        rules = [quadrature(each, self._section.steps) for each in probabilities]
        nodes, weights = (np.stack(each) for each in zip(*rules, strict=True))
        found = paths.integrate(site, nodes, weights)
        self._require_finite(questions, found)
        return found, completeness_gap(found.sum(1), probabilities[:, -1], probabilities[:, 0])

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

    def _require_finite(self, questions: Sequence[Question], numbers: Array) -> None:
        """Raise ProblemError(NOT_FINITE) naming the first fact whose numbers (p, ..) are not."""
        broken = np.flatnonzero(~np.isfinite(numbers).reshape(len(questions), -1).all(1))
        if not len(broken):
            return
        question = questions[broken[0]]
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


def _reason(model: str, section: KnowledgeNeuronSection, sites: Sequence[Site]) -> str | None:
    if sites:
        return None
    named = " or ".join(section.blocks or tuple(Block))
    return f"None of the layers of `{model}` that were asked for has a {named} to be read."
