"""The sections about facts, interventions, models side by side and texts, without a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from schemas.interval import Interval
from schemas.knowledge_neurons import (
    FactNeurons,
    FactOverlap,
    KnowledgeNeuron,
    KnowledgeNeuronAnalysis,
    PromptKnowledge,
)
from schemas.names import DEFAULT_METHODS, Block, Intervening, Method, Ranking
from schemas.perturbation import Effect, PerturbationAnalysis, Perturbed, PerturbedSet, RandomEffect
from schemas.result import AveragedKnowledge
from schemas.sections import (
    Fact,
    Intervention,
    KnowledgeNeuronSection,
    NeuronRef,
    NeuronSet,
    PerturbationSection,
)
from schemas.universality import UniversalBlock, Universality, UniversalPair

CAPITALS = [
    ("The capital of France is", " Paris"),
    ("The largest city of Japan, and its capital since the nineteenth century, is", " Tokyo"),
    ("The Colosseum stands in", " Rome"),
    ("Berlin is the capital of", " Germany"),
    ("The currency of Switzerland is the", " franc"),
]


@dataclass(frozen=True)
class Facts:
    """What to make. `each`: neurons of a fact at most; some of them are the same for all facts."""

    facts: Sequence[tuple[str, str]] = tuple(CAPITALS)
    layers: Sequence[int] = (0, 6, 12, 18)
    blocks: Sequence[Block] = (Block.MIXER, Block.MLP)
    each: int = 12
    seed: int = 0

    @property
    def section(self) -> KnowledgeNeuronSection:
        return KnowledgeNeuronSection(
            facts=[Fact(prompt=p, answer=a, paraphrases=[p + " of course"]) for p, a in self.facts]
        )


def knowledge(made: Facts) -> KnowledgeNeuronAnalysis:
    """Every fact's neurons, and what they share."""
    rng = np.random.default_rng(made.seed)
    facts = [_fact(made, index, rng) for index in range(len(made.facts))]
    return KnowledgeNeuronAnalysis(
        model="state-spaces/mamba-130m",
        facts=facts,
        overlaps=[_overlap(one, other) for one, other in combinations(facts, 2)],
    )


def _fact(made: Facts, index: int, rng: np.random.Generator) -> FactNeurons:
    prompt, answer = made.facts[index]
    named = {
        (int(rng.choice(made.layers)), made.blocks[int(rng.integers(len(made.blocks)))], neuron)
        for neuron in rng.integers(0, 40, made.each).tolist()
    }
    neurons = [
        KnowledgeNeuron(
            layer=layer,
            block=block,
            neuron=neuron,
            attribution=float(rng.gamma(1.0, 0.02)),
            prompts=1.0,
        )
        for layer, block, neuron in sorted(named)
    ]
    neurons.sort(key=lambda neuron: -neuron.attribution)
    return FactNeurons(
        fact=index,
        answer=answer,
        answer_tokens=[answer],
        prompts=[
            PromptKnowledge(
                prompt=shown,
                probability=float(rng.beta(2, 1)),
                log_probability=-0.4,
                completeness_gap=float(rng.gamma(1, 0.01)),
            )
            for shown in (prompt, prompt + " of course")
        ],
        neurons=neurons,
        per_layer={layer: sum(n.layer == layer for n in neurons) for layer in made.layers},
    )


def _overlap(one: FactNeurons, other: FactNeurons) -> FactOverlap:
    ours, theirs = ({(n.layer, n.block, n.neuron) for n in f.neurons} for f in (one, other))
    both, either = len(ours & theirs), len(ours | theirs)
    return FactOverlap(
        facts=(one.fact, other.fact), jaccard=both / either if either else None, shared=both
    )


INTERVENTIONS = [
    Intervention(kind=Intervening.ZERO),
    Intervention(kind=Intervening.MEAN),
    Intervention(kind=Intervening.NOISE, std=0.5),
    Intervention(kind=Intervening.SCALE, factor=-1.25),
]
SETS = [
    NeuronSet(found_by=Ranking.ATTRIBUTION),
    NeuronSet(found_by="knowledge_neurons", count=200),
    NeuronSet(neurons=[NeuronRef(layer=47, block=Block.MLP, neuron=11007)]),
    NeuronSet(found_by=Method.ATTENTION_WEIGHTED, count=10_000),
    NeuronSet(neurons=[NeuronRef(layer=1, neuron=n) for n in range(3)]),
]


@dataclass(frozen=True)
class Perturbations:
    """What to make. `size`: of the effects; 0 for interventions that change nothing."""

    sets: Sequence[NeuronSet] = tuple(SETS[:2])
    interventions: Sequence[Intervention] = tuple(INTERVENTIONS)
    control_texts: int = 2
    size: float = 1.0
    seed: int = 0

    @property
    def section(self) -> PerturbationSection:
        return PerturbationSection(
            sets=list(self.sets),
            interventions=list(self.interventions),
            control_texts=["a control text"] * self.control_texts,
        )


def perturbation(made: Perturbations) -> PerturbationAnalysis:
    """Every set under every intervention."""
    rng = np.random.default_rng(made.seed)
    controlled = made.control_texts > 0
    return PerturbationAnalysis(
        model="state-spaces/mamba-130m",
        baseline_loss=2.1,
        baseline_probability=0.83,
        control_loss=2.6 if controlled else None,
        control_probability=0.4 if controlled else None,
        sets=[
            PerturbedSet(
                set_index=index,
                found_by=chosen.found_by,
                neurons=chosen.neurons
                or [NeuronRef(layer=0, neuron=n) for n in range(chosen.count)],
            )
            for index, chosen in enumerate(made.sets)
        ],
        results=[
            Perturbed(
                set_index=index,
                intervention_index=place,
                intervention=intervention,
                effect=_effect(made.size * float(rng.normal(-0.3, 0.2)), rng),
                random=_random(abs(made.size) * 0.03, rng),
                random_sets=20,
                more_extreme=float(rng.integers(0, 3)) / 20,
                control=_effect(made.size * float(rng.normal(0, 0.02)), rng)
                if controlled
                else None,
                random_control=_random(abs(made.size) * 0.02, rng) if controlled else None,
            )
            for index in range(len(made.sets))
            for place, intervention in enumerate(made.interventions)
        ],
    )


def _effect(probability: float, rng: np.random.Generator) -> Effect:
    return Effect(
        logit=probability * float(rng.normal(12, 2)),
        probability=probability,
        divergence=probability**2 * 4,
        loss=-probability / 3,
        perplexity=float(np.exp(-probability / 3)),
    )


def _random(size: float, rng: np.random.Generator) -> RandomEffect:
    def interval(scale: float) -> Interval:
        mean, half = float(rng.normal(0, size)) * scale, abs(size * scale)
        return Interval(mean=mean, low=mean - half, high=mean + half)

    return RandomEffect(
        logit=interval(10),
        probability=interval(1),
        divergence=Interval(mean=size**2, low=0.5 * size**2, high=2 * size**2),
        loss=interval(0.3),
        perplexity=interval(0.3),
    )


@dataclass(frozen=True)
class Universal:
    """What to make. `still`: no neuron varies."""

    models: Sequence[str] = ("state-spaces/mamba-130m", "EleutherAI/pythia-160m")
    layers: Sequence[int] = (0, 6, 12, 18)
    blocks: Sequence[Block] = (Block.MIXER, Block.MLP)
    neurons: int = 300
    still: bool = False
    seed: int = 0


def universality(made: Universal) -> Universality:
    """Both directions of every pair of models."""
    rng = np.random.default_rng(made.seed)
    pairs = []
    for index, models in enumerate(permutations(made.models, 2)):
        blocks = [
            _universal(made, layer, block, rng) for layer in made.layers for block in made.blocks
        ]
        share = sum(b.fraction_universal for b in blocks) / max(1, len(blocks))
        pairs.append(
            UniversalPair(
                models=models,
                tokens=4096 - index,
                fraction_universal=share,
                fraction_by_chance=share / 2,
                mean_excess=0.1,
                blocks=blocks,
            )
        )
    return Universality(threshold=0.5, pairs=pairs)


def _universal(
    made: Universal, layer: int, block: Block, rng: np.random.Generator
) -> UniversalBlock:
    found = rng.beta(3, 3, made.neurons)
    baseline = rng.beta(6, 20, made.neurons)
    share = float((found - baseline > 0.5).mean())
    return UniversalBlock(
        layer=layer,
        block=block,
        num_neurons=made.neurons,
        max_correlation=[None] * made.neurons if made.still else found.tolist(),
        baseline=[None] * made.neurons if made.still else baseline.tolist(),
        best_match=[None] * made.neurons,
        mean_excess=0.1,
        fraction_universal=0.0 if made.still else share,
        fraction_by_chance=0.0 if made.still else share / 2,
    )


@dataclass(frozen=True)
class Averages:
    """What to make. `constant`: every number of every layer and method."""

    layers: Sequence[int] = (0, 6, 12, 18)
    methods: Sequence[Method] = DEFAULT_METHODS
    texts: int = 8
    constant: float | None = None
    seed: int = 0


def averages(made: Averages) -> list[AveragedKnowledge]:
    """Of every layer and method."""
    rng = np.random.default_rng(made.seed)

    def interval(limit: float) -> Interval:
        if made.constant is not None:
            return Interval(mean=made.constant, low=made.constant, high=made.constant)
        mean, half = limit * float(rng.uniform(0.2, 0.8)), limit * float(rng.uniform(0, 0.1))
        return Interval(mean=mean, low=mean - half, high=mean + 2 * half)

    named = {"model", "layer", "method", "texts"}
    limits = {"effective_keys": 30.0, "mean_distance": 12.0, "mean_distance_characters": 50.0}
    return [
        AveragedKnowledge(
            model="state-spaces/mamba-130m",
            layer=layer,
            method=method,
            texts=made.texts,
            **{
                field: interval(limits.get(field, 1.0))
                for field in AveragedKnowledge.model_fields
                if field not in named
            },
        )
        for layer in made.layers
        for method in made.methods
    ]
