"""The sections about neurons that look like real ones, without a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.names import Block, Mixer, Ranking
from schemas.neurons import (
    ActivationStatistics,
    BlockNeurons,
    DeltaStatistics,
    NeuronAnalysis,
    NeuronProfile,
    RankedValue,
    Sparsity,
    TopToken,
    Trigger,
)
from schemas.sections import (
    NeuronSection,
)
from tests.workers.figures.documents import prose

Floats = npt.NDArray[np.float64]
JOB = "01KAQ3V9Q0Z7X3M5B8F2N6T4RC"
SECTION = NeuronSection()


@dataclass(frozen=True)
class Neurons:
    """What to make. `tokens` are what the neurons are strongest at; `spread`, decades of std."""

    model: str = "state-spaces/mamba-130m"
    layers: Sequence[int] = (0, 6, 12, 18)
    blocks: Sequence[tuple[Block, Mixer | None]] = ((Block.MIXER, Mixer.S6),)
    neurons: int = 1536
    tokens: Sequence[str] = tuple(prose(400))
    texts: int = 8
    constant: float | None = None
    spread: float = 1.0
    quiet: float = 0.05
    attribution: bool = True
    seed: int = 0


def neuron_analysis(made: Neurons) -> NeuronAnalysis:
    """Every block of every layer."""
    rng = np.random.default_rng(made.seed)
    return NeuronAnalysis(
        model=made.model,
        texts=made.texts,
        tokens=len(made.tokens),
        position_bins=16,
        chance_information=15 / (2 * len(made.tokens)),
        blocks=[
            _block(made, layer, block, mixer, rng)
            for layer in made.layers
            for block, mixer in made.blocks
        ],
        unavailable_reason=None,
    )


def _block(
    made: Neurons, layer: int, block: Block, mixer: Mixer | None, rng: np.random.Generator
) -> BlockNeurons:
    count = made.neurons
    std = 0.05 * (layer + 1) ** 0.5 * rng.lognormal(0, made.spread, count)
    active = rng.beta(0.4, 2.5, count) if block is Block.MLP else rng.beta(3, 1.2, count)
    quiet = rng.random(count)
    active[quiet < made.quiet] = 0.004
    active[quiet < made.quiet / 3] = std[quiet < made.quiet / 3] = 0.0
    if made.constant is not None:
        std[:] = made.constant
        active[:] = float(made.constant > SECTION.active_above)
    dead = np.flatnonzero(active == 0)
    rare = np.flatnonzero((active > 0) & (active < SECTION.rare_below))
    rankings = _rankings(made, mixer, std, rng)
    named = {r.neuron for k, v in rankings.items() if k != Ranking.DELTA_VARIANCE for r in v}
    return BlockNeurons(
        layer=layer,
        block=block,
        mixer=mixer,
        num_neurons=count,
        statistics=_statistics(std, active, rng),
        sparsity=_sparsity(rng),
        dead=dead.tolist(),
        rare=rare.tolist(),
        delta=_delta(mixer, count, rng),
        attribution=None,
        rankings=rankings,
        profiles=[_profile(neuron, made, rng) for neuron in sorted(named)],
    )


def _rankings(
    made: Neurons, mixer: Mixer | None, std: Floats, rng: np.random.Generator
) -> dict[Ranking, list[RankedValue]]:
    count = made.neurons
    values: dict[Ranking, Floats] = {Ranking.VARIANCE: std**2}
    if made.texts > 1:
        values[Ranking.TEXT_VARIANCE] = std**2 * rng.beta(1, 5, count)
    if mixer in (Mixer.S6, Mixer.SSD):
        values[Ranking.DELTA_VARIANCE] = rng.lognormal(-6, 1.5, count)
    values[Ranking.POSITION_CORRELATION] = np.tanh(rng.normal(0, 0.2, count))
    values[Ranking.POSITION_INFORMATION] = rng.gamma(1.0, 0.05, count)
    if made.attribution:
        values[Ranking.ATTRIBUTION] = rng.normal(0, 0.02, count) * rng.lognormal(0, 1, count)
    if made.constant is not None:
        values = {name: np.full(count, made.constant) for name in values}
    return {
        name: [
            RankedValue(neuron=int(i), value=float(found[i]))
            for i in np.argsort(-np.abs(found), kind="stable")[: SECTION.top_k]
        ]
        for name, found in values.items()
    }


def _statistics(std: Floats, active: Floats, rng: np.random.Generator) -> ActivationStatistics:
    count = len(std)
    moving = std > 0
    tails = [
        float(v) if m else None for v, m in zip(rng.gamma(2, 3, count) - 1, moving, strict=True)
    ]
    return ActivationStatistics(
        mean=(std * rng.normal(0, 0.3, count)).tolist(),
        std=std.tolist(),
        skewness=tails,
        kurtosis=tails,
        minimum=(-3 * std).tolist(),
        maximum=(5 * std).tolist(),
        mean_magnitude=(0.7 * std).tolist(),
        fraction_active=active.tolist(),
        fraction_positive=(active / 2).tolist(),
    )


def _sparsity(rng: np.random.Generator) -> Sparsity:
    gini = float(rng.uniform(0.3, 0.8))
    return Sparsity(
        gini=gini,
        entropy=5.9,
        entropy_normalised=1 - gini / 4,
        hoyer=gini**2,
        hoyer_per_token=float(rng.uniform(0.3, 0.8)),
    )


def _delta(mixer: Mixer | None, count: int, rng: np.random.Generator) -> DeltaStatistics | None:
    if mixer not in (Mixer.S6, Mixer.SSD):
        return None
    mean = rng.lognormal(-3.5, 1.2, count)
    return DeltaStatistics(mean=mean.tolist(), variance=(mean**2 / 3).tolist())


def _profile(neuron: int, made: Neurons, rng: np.random.Generator) -> NeuronProfile:
    tokens = made.tokens
    tops = []
    for rank in range(3):
        at = int(rng.integers(len(tokens)))
        tops.append(
            TopToken(
                activation=float(rng.normal(0, 3)) / (rank + 1),
                text_index=0,
                position=at,
                token=tokens[at],
                before="".join(tokens[max(0, at - 5) : at]),
                after="".join(tokens[at + 1 : at + 6]),
            )
        )
    at = tops[0].position
    triggers = [
        Trigger(
            n=n,
            ids=list(range(n)),
            tokens=list(tokens[at + 1 - n : at + 1]),
            share=round(float(1.0 / n), 2),
            lift=30.0,
        )
        for n in range(1, 4)
        if n <= at + 1 and rng.random() < 0.7
    ]
    return NeuronProfile(neuron=neuron, top_tokens=tops, triggers=triggers)
