"""What changes in what a model says when neurons are changed, beside as many drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catalogue.perturbation import absent
from schemas.names import Intervening
from schemas.perturbation import PerturbationAnalysis, Perturbed, PerturbedSet
from schemas.problem import ProblemError, ProblemType, and_more
from schemas.sections import NeuronRef, PerturbationSection
from workers.analyses.perturbation import (
    Changes,
    Chosen,
    Said,
    effect,
    matched_sets,
    more_extreme,
    random_effect,
)
from workers.experiments import Tell
from workers.experiments.changes import Condition, Moments
from workers.experiments.listening import Listener, Texts
from workers.mixers.sites import Place, Site, sites_of
from workers.models.loading import LoadedModel
from workers.neuron_reading import NeuronReading
from workers.numbers import number
from workers.traces import TraceRequest, traced
from workers.tracing import trace_each

Heard = tuple[Said, list[Said]]
"""What is said before any change, and under each intervention."""

_NEEDS_MOMENTS = frozenset({Intervening.MEAN, Intervening.NOISE})


def perturb(
    loaded: LoadedModel,
    section: PerturbationSection,
    sets: Sequence[Sequence[NeuronRef]],
    texts: Sequence[TraceRequest],
    controls: Sequence[TraceRequest],
    moments: Mapping[Place, Moments],
    pool: Sequence[Site],
    seed: int,
    room: int,
    tell: Tell,
) -> PerturbationAnalysis:
    """Intervene on each set, and on random ones like it, at every token of every text.

    sets: the neurons of each of `section.sets`, none empty and none named twice in a set. A text's
    target is its `token`, or what the model says most probably before any change; the logit is
    that of the token less that of the `contrast`, where there is one, the probability the token's
    alone. Controls have targets of their own. moments: of the neurons over the texts' tokens, for
    `mean` and `noise`; blocks without are measured here, in one more pass over the texts. pool:
    the blocks whose neurons random sets are drawn from, those of the sets among them. A pass takes
    at most `room` bytes, unless a single text does not fit. tell: how far it is, before each pass.

    Random sets have as many neurons of each block as the set has, and are the same under every
    intervention. A set that takes all neurons of its blocks has no other like it: it stands beside
    itself, its effects those of all its random sets.

    Results depend on `seed` and not on `room`, but for rounding. Cost: one pass over all texts for
    each set, each intervention, and the set itself and each random one.

    Raises ValueError: no texts, sets that are not those of the section, an empty set, a neuron
    twice or outside the pool. ProblemError: not-finite, naming what was changed.
    """
    if not texts:
        raise ValueError("without texts nothing can change")
    plan = _Plan.of(section, sets, pool, seed)
    asked = section.interventions
    known = dict(moments)
    if any(each.kind in _NEEDS_MOMENTS for each in asked):
        missing = [site for place, site in plan.sites.items() if place not in known]
        known |= measured_moments(loaded, missing, texts, room)
    progress = _Progress.over([*texts, *controls], len(plan.conditions) * len(asked), tell)
    listener = Listener(loaded, plan.sites, known, room, progress.passing)
    heard = listener.listen(Texts(texts), asked, plan.conditions)
    control = None
    if controls:
        control = listener.listen(Texts(controls, "control text", 1), asked, plan.conditions)
    return PerturbationAnalysis(
        model=loaded.name,
        baseline_loss=_loss(heard),
        baseline_probability=_probability(heard),
        control_loss=None if control is None else _loss(control),
        control_probability=None if control is None else _probability(control),
        sets=[
            PerturbedSet(set_index=index, found_by=given.found_by, neurons=list(neurons))
            for index, (given, neurons) in enumerate(zip(section.sets, sets, strict=True))
        ],
        results=plan.results(section, heard, control),
    )


def checked_sets(loaded: LoadedModel, section: PerturbationSection) -> dict[int, list[NeuronRef]]:
    """The neurons of the sets that give them one by one, by the set's index.

    Raises ProblemError(INVALID_REQUEST), with the field of each neuron that the loaded model does
    not have, where its config alone did not tell when the request was admitted.
    """
    given = {i: each.neurons for i, each in enumerate(section.sets) if each.neurons is not None}
    layers = {neuron.layer for neurons in given.values() for neuron in neurons}
    sizes = {site.place: site.neurons for site in sites_of(loaded.model, layers)}
    errors = []
    for index, neurons in given.items():
        for at, neuron in enumerate(neurons):
            size = sizes.get((neuron.layer, neuron.block), 0)
            if neuron.neuron >= size:
                pointer = f"/perturbation/sets/{index}/neurons/{at}"
                errors.append(absent(pointer, f"`{loaded.name}`", neuron, size))
    if errors:
        detail = errors[0].detail + and_more(errors)
        raise ProblemError(ProblemType.INVALID_REQUEST, detail, errors)
    return given


@dataclass(frozen=True)
class _Plan:
    """What is changed: each set, followed by its random ones, in a row of conditions.

    spans: where a set and its random ones stand; sites: the blocks that any of them changes.
    """

    sites: Mapping[Place, Site]
    conditions: list[Condition]
    spans: list[slice]

    @classmethod
    def of(
        cls,
        section: PerturbationSection,
        sets: Sequence[Sequence[NeuronRef]],
        pool: Sequence[Site],
        seed: int,
    ) -> "_Plan":
        """Of the sets of a section. Raises ValueError as `perturb` does."""
        if len(sets) != len(section.sets):
            raise ValueError(f"{len(sets)} sets are not the {len(section.sets)} of the section")
        sites = {site.place: site for site in pool}
        sizes = {place: site.neurons for place, site in sites.items()}
        conditions: list[Condition] = []
        spans = []
        for index, neurons in enumerate(sets):
            own, draw = _chosen(neurons, sizes), np.random.default_rng([seed, index])
            first = len(conditions)
            conditions.append(Condition(own, (seed, index, 0), f"the neurons of set {index}"))
            conditions += [
                Condition(drawn, (seed, index, at), f"random neurons like those of set {index}")
                for at, drawn in enumerate(matched_sets(own, sizes, section.random_sets, draw), 1)
            ]
            spans.append(slice(first, len(conditions)))
        used = {place for condition in conditions for place in condition.chosen}
        return cls({place: sites[place] for place in sorted(used)}, conditions, spans)

    def results(
        self, section: PerturbationSection, heard: Heard, control: Heard | None
    ) -> list[Perturbed]:
        """One of each set and intervention."""
        found = []
        for set_index, span in enumerate(self.spans):
            for index, intervention in enumerate(section.interventions):
                own, randoms = _sides(heard, index, span, section.random_sets)
                beside = None
                if control is not None:
                    beside = _sides(control, index, span, section.random_sets)
                found.append(
                    Perturbed(
                        set_index=set_index,
                        intervention_index=index,
                        intervention=intervention,
                        effect=effect(own),
                        random=random_effect(randoms),
                        random_sets=section.random_sets,
                        more_extreme=more_extreme(own, randoms),
                        control=None if beside is None else effect(beside[0]),
                        random_control=None if beside is None else random_effect(beside[1]),
                    )
                )
        return found


def _sides(
    heard: Heard, intervention: int, span: slice, random_sets: int
) -> tuple[Changes, Changes]:
    """The changes of a set, and of its random ones: its own, where there is no other like it."""
    before, after = heard
    changes = Changes.between(before, after[intervention].of(span))
    own, randoms = changes.of([0]), changes.of(range(1, span.stop - span.start))
    return own, randoms if len(randoms.logit) else changes.of([0] * random_sets)


def _chosen(neurons: Sequence[NeuronRef], sizes: Mapping[Place, int]) -> Chosen:
    """A set's neurons by block. Raises ValueError: none, one twice, or one that is not there."""
    if not neurons:
        raise ValueError("a set without neurons changes nothing")
    found: dict[Place, list[int]] = {}
    for each in neurons:
        place = each.layer, each.block
        if each.neuron >= sizes.get(place, 0):
            raise ValueError(f"the pool has no neuron {each}")
        found.setdefault(place, []).append(each.neuron)
    chosen = {place: np.unique(found[place]) for place in sorted(found)}
    if sum(map(len, chosen.values())) < len(neurons):
        raise ValueError("a set names a neuron twice")
    return chosen


def measured_moments(
    loaded: LoadedModel, sites: Sequence[Site], texts: Sequence[TraceRequest], room: int
) -> dict[Place, Moments]:
    """Mean and standard deviation of blocks' neurons over the texts' tokens, in a pass of them."""
    if not sites:
        return {}
    reading = NeuronReading(sites, [len(request.ids) for request in texts])
    requests = [TraceRequest(text.ids, text=i, reading=reading) for i, text in enumerate(texts)]
    for _, outcome in trace_each(loaded, requests, set(), set(), room):
        traced(outcome)
    return {site.place: Moments.of(found) for site, found in reading.moments.items()}


def _loss(heard: Heard) -> float | None:
    """Before any change, mean over the texts; None where every text is a single token."""
    loss = heard[0].mean_loss()
    return None if loss is None else number(loss)


def _probability(heard: Heard) -> float:
    """Likewise, of the targets."""
    return number(float(heard[0].probability.mean()))


@dataclass
class _Progress:
    """How many of the tokens of all passes have passed."""

    total: int
    tell: Tell
    done: int = 0

    @classmethod
    def over(cls, texts: Sequence[TraceRequest], conditions: int, tell: Tell) -> "_Progress":
        """Of each text unchanged, and under so many conditions."""
        return cls(sum(len(text.ids) for text in texts) * (1 + conditions), tell)

    def passing(self, tokens: int) -> None:
        """So many are about to pass."""
        self.tell(self.done / self.total, f"{self.done} of {self.total} tokens")
        self.done += tokens
