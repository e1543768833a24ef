"""Which figures the sections about neurons have, and what is sent to be drawn."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from schemas import artifact_names
from schemas.job import Shows
from schemas.names import Block, Method, Mixer, Ranking, Section
from tests.workers.figures.experiment_documents import (
    Averages,
    Facts,
    Perturbations,
    Universal,
    averages,
    knowledge,
    perturbation,
    universality,
)
from tests.workers.figures.neuron_documents import JOB, SECTION, Neurons, neuron_analysis
from workers.figures import picking
from workers.figures.drawing import page_about
from workers.figures.parts import QUANTILES, BlockPart, NeuronOverviewPart, Part
from workers.figures.plan import Figure, figures
from workers.figures.studio import Studio

pytestmark = pytest.mark.filterwarnings("error")

MODEL = "state-spaces/mamba-130m"
TWO_BLOCKS = Neurons(
    layers=(0, 7), blocks=((Block.MIXER, Mixer.SOFTMAX), (Block.MLP, None)), neurons=50
)


def every_part(several_models: bool = False) -> list[Part]:
    """A part of each kind; two blocks of neurons."""
    facts, changes = Facts(), Perturbations()
    found = averages(Averages())
    averaged = picking.averages_part(JOB, MODEL, several_models, found)
    assert averaged is not None
    made = neuron_analysis(Neurons(layers=(3,), blocks=TWO_BLOCKS.blocks, neurons=50))
    return [
        *picking.neuron_parts(JOB, SECTION, several_models, made),
        picking.knowledge_part(JOB, facts.section, several_models, knowledge(facts)),
        picking.perturbation_part(JOB, changes.section, 3, several_models, perturbation(changes)),
        picking.universality_part(JOB, universality(Universal())),
        averaged,
    ]


def named(several_models: bool) -> list[Figure]:
    return [figure for part in every_part(several_models) for figure in figures(part)]


def test_every_part_has_one_figure_that_says_what_it_shows() -> None:
    wanted = {
        "neurons_mixer_layer3.png": (Section.NEURONS, MODEL, 3, Block.MIXER),
        "neurons_mlp_layer3.png": (Section.NEURONS, MODEL, 3, Block.MLP),
        "neurons_overview.png": (Section.NEURONS, MODEL, None, None),
        "knowledge_neurons.png": (Section.KNOWLEDGE_NEURONS, MODEL, None, None),
        "perturbation.png": (Section.PERTURBATION, MODEL, None, None),
        "universality.png": (Section.UNIVERSALITY, None, None, None),
        "attention_knowledge_averages.png": (Section.ATTENTION, MODEL, None, None),
    }
    assert {figure.name: figure.shows for figure in named(False)} == {
        name: Shows(section=section, model=model, layer=layer, block=block)
        for name, (section, model, layer, block) in wanted.items()
    }


def test_of_several_models_the_names_say_which() -> None:
    alone = [figure.name for figure in named(False)]
    assert [figure.name for figure in named(True)] == [
        name if name == "universality.png" else f"state-spaces_mamba-130m--{name}" for name in alone
    ]


def test_figures_are_counted_before_they_are_drawn() -> None:
    parts = list(picking.neuron_parts(JOB, SECTION, False, neuron_analysis(TWO_BLOCKS)))
    drawn = sum(len(list(figures(part))) for part in parts)
    assert artifact_names.neuron_figure_count(4) == drawn == 5
    none = neuron_analysis(TWO_BLOCKS).model_copy(update={"blocks": []})
    assert list(picking.neuron_parts(JOB, SECTION, False, none)) == []
    assert artifact_names.neuron_figure_count(0) == 0


@pytest.mark.parametrize("texts", [1, 2])
def test_averages_of_a_single_text_have_no_figure(texts: int) -> None:
    found = averages(Averages(texts=texts))
    part = picking.averages_part(JOB, MODEL, False, found)
    assert (part is not None) == (artifact_names.averages_figure_count(4, texts) == 1)
    assert picking.averages_part(JOB, "another", False, found) is None


def test_a_part_is_known_again_by_its_json() -> None:
    adapter: TypeAdapter[Part] = TypeAdapter(Part)
    for part in every_part():
        again = adapter.validate_json(part.model_dump_json())
        assert type(again) is type(part)
        assert again == part


def test_a_process_draws_what_is_drawn_here() -> None:
    parts = every_part()
    here = {
        figure.name: page_about(part, figure.shows).render()
        for part in parts
        for figure in figures(part)
    }
    studio = Studio(1)
    try:
        with studio.drawings() as drawings:
            for part in parts:
                drawings.begin(part)
            assert {drawing.name: drawing.png for drawing in drawings.collect()} == here
    finally:
        studio.close()


def test_a_block_is_sent_with_the_first_of_its_rankings_alone() -> None:
    whole = neuron_analysis(Neurons(layers=(5,), neurons=200)).blocks[0]
    [part, _] = picking.neuron_parts(
        JOB, SECTION, False, neuron_analysis(Neurons(layers=(5,), neurons=200))
    )
    assert isinstance(part, BlockPart)
    assert part.rankings.keys() == whole.rankings.keys()
    for ranking, ranked in part.rankings.items():
        assert ranked == whole.rankings[ranking][: picking.RANKED]
        assert len(ranked) < len(whole.rankings[ranking])
    sent = {profile.neuron: profile for profile in part.profiles}
    for ranking in part.rankings.keys() - {Ranking.DELTA_VARIANCE}:
        assert {ranked.neuron for ranked in part.rankings[ranking]} <= sent.keys()
    for profile in whole.profiles:
        if profile.neuron in sent:
            assert sent[profile.neuron].top_tokens == profile.top_tokens[:1]
    assert (part.dead, part.rare) == (len(whole.dead), len(whole.rare))


def test_a_summary_is_of_all_of_a_blocks_neurons() -> None:
    found = neuron_analysis(Neurons(neurons=120))
    *_, part = picking.neuron_parts(JOB, SECTION, False, found)
    assert isinstance(part, NeuronOverviewPart)
    for summary, block in zip(part.summaries, found.blocks, strict=True):
        tails = [value for value in block.statistics.kurtosis if value is not None]
        assert len(tails) < 120
        assert summary.dead == len(block.dead) / 120 > 0
        assert summary.rare == len(block.rare) / 120 > 0
        assert summary.mean_magnitude == pytest.approx(sum(block.statistics.mean_magnitude) / 120)
        assert summary.kurtosis == pytest.approx(sorted(tails)[len(tails) // 2], rel=0.05)
        assert block.delta is not None
        assert summary.delta == pytest.approx(sum(block.delta.mean) / 120)


def test_correlations_are_sent_as_quantiles_of_those_that_are_known() -> None:
    found = universality(Universal(neurons=101))
    pair = found.pairs[0]
    values = [None, *pair.blocks[0].max_correlation[1:]]
    block = pair.blocks[0].model_copy(update={"max_correlation": values})
    pair = pair.model_copy(update={"blocks": [block]})
    part = picking.universality_part(JOB, found.model_copy(update={"pairs": [pair]}))
    ordered = sorted(value for value in values if value is not None)
    places = [share * (len(ordered) - 1) for share in QUANTILES]
    wanted = np.interp(places, range(len(ordered)), ordered)
    assert part.pairs[0].blocks[0].found == pytest.approx(wanted.tolist())
    still = picking.universality_part(JOB, universality(Universal(still=True)))
    assert {block.found is block.baseline is None for block in still.pairs[0].blocks} == {True}


def test_of_the_neurons_of_a_set_only_their_number_is_sent() -> None:
    made = Perturbations()
    part = picking.perturbation_part(JOB, made.section, 3, False, perturbation(made))
    assert part.sizes == [10, 200]
    assert [len(shown.neurons) for shown in part.perturbation.sets] == [1, 1]
    assert part.perturbation.results == perturbation(made).results


def test_the_methods_of_averages_keep_their_order() -> None:
    found = averages(Averages(methods=(Method.ROLLOUT, Method.CONTRIBUTION)))
    part = picking.averages_part(JOB, MODEL, False, found)
    assert part is not None
    assert part.averages == found
