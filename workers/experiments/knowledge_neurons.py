"""Knowledge neurons: those along which the probability of a fact's answer is built up.

One block at a time, the neurons w of a prompt are scaled together from 0 to what they are, and the
gradient of the answer's probability P is integrated along the way:

    Attr[d] = sum over t of w[t, d] * integral over 0..1 of dP/dw[t, d] at (alpha w), d alpha

so that the attributions of a block add up to P(w) - P(0). The steps of the integral are rows of a
batch. Source: Dai et al., "Knowledge Neurons in Pretrained Transformers" (2104.08696).

Axes: p prompts, b rows of a batch, l tokens, d neuron of a block, n neurons of all the blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.knowledge_neurons import (
    MOST_KNOWLEDGE_NEURONS,
    FactNeurons,
    FactOverlap,
    KnowledgeNeuron,
    KnowledgeNeuronAnalysis,
    PromptKnowledge,
)
from schemas.names import Block
from schemas.problem import FieldError, ProblemError, ProblemType
from schemas.sections import KnowledgeNeuronSection
from workers.analyses.integrated_gradients import (
    SURVEY,
    Truths,
    agreed,
    completeness_gap,
    layers_a_prompt,
    named,
    overlaps,
    quadrature,
)
from workers.experiments import Tell
from workers.experiments.answers import Question, questions_of
from workers.experiments.paths import Paths
from workers.mixers.sites import Site, in_words, sites_of
from workers.models.loading import LoadedModel
from workers.numbers import Floats

# Attributions that are held at once, of the facts that pass together.
_HELD_BYTES = 1 << 26


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
    count, at = len(loaded.description.layers), [site.layer for site in sites]
    passed = sum(map(len, facts)) * layers_a_prompt(count, at, section.steps)
    progress = _Progress(tell, loaded.name, passed)
    search = _Search(loaded, section, sites, room, progress)
    found: list[FactNeurons] = []
    names = np.zeros((len(facts), search.neurons), bool)
    for group in _groups(facts, search.neurons):
        measured = search.measure([question for fact in group for question in fact])
        start = 0
        for fact in group:
            part = measured.of(slice(start, start + len(fact)))
            names[len(found)] = search.names(part)
            found.append(search.fact(fact, part, names[len(found)]))
            start += len(fact)
    return KnowledgeNeuronAnalysis(
        model=loaded.name,
        facts=found,
        overlaps=[
            FactOverlap(facts=(one, other), jaccard=jaccard, shared=shared)
            for one, other, shared, jaccard in overlaps(names)
        ],
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

    logs: Floats
    attributions: Floats
    gaps: Floats

    def of(self, prompts: slice) -> "_Measured":
        """The same of some of the prompts."""
        return _Measured(self.logs[prompts], self.attributions[prompts], self.gaps[prompts])


class _Progress:
    """How many of the layers that rows must pass they have passed, and for what."""

    def __init__(self, tell: Tell, model: str, layers: int) -> None:
        self._tell = tell
        self._model = model
        self._layers = layers
        self._done = 0
        self.what = ""

    def passing(self, layers: int) -> None:
        """Rows begin to pass so many layers."""
        self._tell(self._done / self._layers, f"{self._model}: {self.what}")
        self._done += layers


class _Search:
    """One model, the blocks that are looked at, and what is asked."""

    def __init__(
        self,
        loaded: LoadedModel,
        section: KnowledgeNeuronSection,
        sites: Sequence[Site],
        room: int,
        progress: _Progress,
    ) -> None:
        self._loaded = loaded
        self._section = section
        self._sites = sites
        self._room = room
        self._progress = progress
        self.neurons = sum(site.neurons for site in sites)

    def measure(self, questions: Sequence[Question]) -> _Measured:
        """The probabilities of the answers, and what every block adds to them."""
        positions, passing = self._section.positions, self._progress.passing
        paths = Paths(self._loaded, questions, positions, self._room, passing)
        self._progress.what = "the facts' answers"
        logs = paths.ends()
        self._require_finite(questions, logs)
        attributions, start = np.zeros((len(questions), self.neurons)), 0
        gaps = np.zeros(len(questions))
        for site in self._sites:
            self._progress.what = f"{site.block} of layer {site.layer}"
            found, gap = self._block(questions, paths, site, logs)
            attributions[:, start : start + site.neurons] = found
            gaps, start = np.maximum(gaps, gap), start + site.neurons
        return _Measured(logs, attributions, gaps)

    def _block(
        self, questions: Sequence[Question], paths: Paths, site: Site, logs: Floats
    ) -> tuple[Floats, Floats]:
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

    def names(self, measured: _Measured) -> Truths:
        """(n,): the neurons that enough of a fact's prompts name."""
        return agreed(named(measured.attributions, self._section.threshold), self._section.share)

    def fact(
        self, questions: Sequence[Question], measured: _Measured, names: Truths
    ) -> FactNeurons:
        """What the prompts of one fact have found, its neurons being `names` (n,)."""
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
            neurons=self._strongest(measured, names),
            per_layer=self._per_layer(names),
        )

    def _strongest(self, measured: _Measured, names: Truths) -> list[KnowledgeNeuron]:
        means = measured.attributions.mean(0)
        shares = named(measured.attributions, self._section.threshold).mean(0)
        chosen = np.flatnonzero(names)
        # A stable sort: of equals the one that a pass comes to first.
        chosen = chosen[np.argsort(-means[chosen], kind="stable")]
        return [
            KnowledgeNeuron(
                layer=site.layer,
                block=site.block,
                neuron=neuron,
                attribution=float(means[n]),
                prompts=float(shares[n]),
            )
            for n in chosen[:MOST_KNOWLEDGE_NEURONS].tolist()
            for site, neuron in [self._neuron(n)]
        ]

    def _per_layer(self, names: Truths) -> dict[int, int]:
        found, start = {site.layer: 0 for site in self._sites}, 0
        for site in self._sites:
            found[site.layer] += int(names[start : start + site.neurons].sum())
            start += site.neurons
        return found

    def _neuron(self, n: int) -> tuple[Site, int]:
        """The block of the n-th neuron of all, and its index there."""
        for site in self._sites:
            if n < site.neurons:
                return site, n
            n -= site.neurons
        raise IndexError(n)

    def _require_finite(self, questions: Sequence[Question], numbers: Floats) -> None:
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


def _reason(model: str, section: KnowledgeNeuronSection, sites: Sequence[Site]) -> str | None:
    if sites:
        return None
    which = in_words(section.blocks or tuple(Block))
    return f"None of the layers of `{model}` that were asked for has {which} to be read."
