"""From a section of the document to the parts that its figures are drawn from.

A block has tens of thousands of numbers and a figure shows some of them: only these are sent to the
processes that draw. Loads no drawing library.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.neurons import BlockNeurons, NeuronAnalysis
from schemas.perturbation import PerturbationAnalysis
from schemas.result import AveragedKnowledge
from schemas.sections import KnowledgeNeuronSection, NeuronSection, PerturbationSection
from schemas.universality import Universality
from workers.figures.parts import (
    QUANTILES,
    AveragesPart,
    BlockPart,
    BlockSummary,
    CorrelatedBlock,
    CorrelatedPair,
    KnowledgePart,
    NeuronOverviewPart,
    PerturbationPart,
    UniversalityPart,
)

# Neurons that a page shows of each ranking.
RANKED = 8


def neuron_parts(
    job_id: str, section: NeuronSection, several_models: bool, found: NeuronAnalysis
) -> Iterator[BlockPart | NeuronOverviewPart]:
    """A part for each block and one for all of them; none without a block."""
    for block in found.blocks:
        yield _block_part(job_id, section, several_models, found, block)
    if found.blocks:
        yield NeuronOverviewPart(
            job_id=job_id,
            model=found.model,
            several_models=several_models,
            section=section,
            texts=found.texts,
            tokens=found.tokens,
            summaries=[_summary(block) for block in found.blocks],
        )


def _block_part(
    job_id: str,
    section: NeuronSection,
    several_models: bool,
    found: NeuronAnalysis,
    block: BlockNeurons,
) -> BlockPart:
    rankings = {name: ranked[:RANKED] for name, ranked in block.rankings.items()}
    named = {ranked.neuron for first in rankings.values() for ranked in first}
    profiles = [
        profile.model_copy(update={"top_tokens": profile.top_tokens[:1]})
        for profile in block.profiles
        if profile.neuron in named
    ]
    return BlockPart(
        job_id=job_id,
        model=found.model,
        several_models=several_models,
        section=section,
        texts=found.texts,
        tokens=found.tokens,
        chance_information=found.chance_information,
        layer=block.layer,
        block=block.block,
        mixer=block.mixer,
        num_neurons=block.num_neurons,
        std=block.statistics.std,
        fraction_active=block.statistics.fraction_active,
        dead=len(block.dead),
        rare=len(block.rare),
        sparsity=block.sparsity,
        delta=block.delta,
        rankings=rankings,
        profiles=profiles,
    )


def _summary(block: BlockNeurons) -> BlockSummary:
    tails = [value for value in block.statistics.kurtosis if value is not None]
    return BlockSummary(
        layer=block.layer,
        block=block.block,
        mixer=block.mixer,
        num_neurons=block.num_neurons,
        sparsity=block.sparsity,
        dead=len(block.dead) / block.num_neurons,
        rare=len(block.rare) / block.num_neurons,
        mean_magnitude=float(np.mean(block.statistics.mean_magnitude)),
        kurtosis=float(np.median(tails)) if tails else None,
        delta=None if block.delta is None else float(np.mean(block.delta.mean)),
    )


def knowledge_part(
    job_id: str,
    section: KnowledgeNeuronSection,
    several_models: bool,
    found: KnowledgeNeuronAnalysis,
) -> KnowledgePart:
    """One model's knowledge neurons."""
    return KnowledgePart(
        job_id=job_id, several_models=several_models, facts=section.facts, knowledge=found
    )


def perturbation_part(
    job_id: str,
    section: PerturbationSection,
    texts: int,
    several_models: bool,
    found: PerturbationAnalysis,
) -> PerturbationPart:
    """What interventions change in one model; `texts`: how many the target was read in."""
    cut = [shown.model_copy(update={"neurons": shown.neurons[:1]}) for shown in found.sets]
    return PerturbationPart(
        job_id=job_id,
        several_models=several_models,
        texts=texts,
        control_texts=len(section.control_texts),
        interventions=section.interventions,
        sizes=[len(shown.neurons) for shown in found.sets],
        perturbation=found.model_copy(update={"sets": cut}),
    )


def universality_part(job_id: str, found: Universality) -> UniversalityPart:
    """The models' neurons against each other."""
    pairs = [
        CorrelatedPair(
            models=pair.models,
            tokens=pair.tokens,
            fraction_universal=pair.fraction_universal,
            blocks=[
                CorrelatedBlock(
                    layer=block.layer,
                    block=block.block,
                    found=_quantiles(block.max_correlation),
                    baseline=_quantiles(block.baseline),
                    fraction_universal=block.fraction_universal,
                    fraction_by_chance=block.fraction_by_chance,
                )
                for block in pair.blocks
            ],
        )
        for pair in found.pairs
    ]
    return UniversalityPart(job_id=job_id, threshold=found.threshold, pairs=pairs)


def _quantiles(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    quantiles: list[float] = np.quantile(known, QUANTILES).tolist()
    return quantiles


def averages_part(
    job_id: str, model: str, several_models: bool, found: Sequence[AveragedKnowledge]
) -> AveragesPart | None:
    """One model's averages over its texts; None where there are none, or of one text only."""
    averages = [average for average in found if average.model == model and average.texts > 1]
    if not averages:
        return None
    return AveragesPart(
        job_id=job_id, model=model, several_models=several_models, averages=averages
    )
