"""Nothing overlaps and nothing leaves the page, for few neurons and many and for any text."""

import pytest

from schemas.names import Block, Method, Mixer
from tests.workers.figures.experiment_documents import (
    CAPITALS,
    INTERVENTIONS,
    SETS,
    Averages,
    Facts,
    Perturbations,
    Universal,
    averages,
    knowledge,
    perturbation,
    universality,
)
from tests.workers.figures.looking import HOSTILE, legible
from tests.workers.figures.neuron_documents import JOB, SECTION, Neurons, neuron_analysis
from workers.figures import picking
from workers.figures.drawing import page_about
from workers.figures.page import Page
from workers.figures.parts import Part
from workers.figures.plan import figures

pytestmark = pytest.mark.filterwarnings("error")

LONG = "some/" + "very-long-name-" * 6
# Facts whose prompt is blank are refused, and so is half of a character.
PHRASES = [text for text in HOSTILE if text.strip() and text != "\ud800"]


def page(part: Part) -> Page:
    [figure] = figures(part)
    return page_about(part, figure.shows)


@pytest.mark.parametrize(
    "made",
    [
        Neurons(layers=(6,)),
        Neurons(layers=(0,), blocks=((Block.MLP, None),), neurons=11_008, quiet=0.5),
        Neurons(layers=(0,), neurons=1, texts=1, tokens=("river",), attribution=False),
        Neurons(
            layers=(127,),
            model=LONG,
            neurons=40,
            tokens=HOSTILE,
            blocks=((Block.MIXER, Mixer.SSD),),
        ),
        Neurons(layers=(1,), neurons=64, constant=0.0),
        Neurons(layers=(1,), neurons=64, constant=0.3),
        Neurons(layers=(1,), neurons=64, constant=1e-310),
        Neurons(layers=(1,), neurons=600, spread=8.0, quiet=1.0),
    ],
    ids=["default", "many", "one", "hostile", "zero", "constant", "tiny", "apart"],
)
def test_block(made: Neurons) -> None:
    [part, over] = picking.neuron_parts(JOB, SECTION, True, neuron_analysis(made))
    shown = page(part)
    legible(shown)
    assert shown.height < 12
    legible(page(over))


@pytest.mark.parametrize("layers", [(0, 1), (3, 4, 46), range(48), range(128)])
def test_neurons_by_layer(layers: tuple[int, ...]) -> None:
    kinds = ((Block.MIXER, Mixer.S6), (Block.MLP, None))
    made = neuron_analysis(Neurons(layers=layers, blocks=kinds, neurons=20))
    *_, part = picking.neuron_parts(JOB, SECTION, True, made)
    legible(page(part))


@pytest.mark.parametrize(
    "made",
    [
        Facts(),
        Facts(facts=CAPITALS[:1], layers=(0, 1)),
        Facts(facts=CAPITALS[:2], layers=range(24)),
        Facts(facts=(CAPITALS * 13)[:64], layers=range(48), each=60),
        Facts(facts=(CAPITALS * 3)[:11], layers=range(100, 128), each=2000),
        Facts(each=0),
        Facts(facts=[(text, text[::-1]) for text in PHRASES], layers=range(7)),
        Facts(facts=[("W" * 500, "W" * 500)] * 12, each=3),
    ],
    ids=["default", "one", "two", "64", "many neurons", "none", "hostile", "wide"],
)
def test_facts(made: Facts) -> None:
    shown = page(picking.knowledge_part(JOB, made.section, False, knowledge(made)))
    legible(shown)
    assert shown.height < 17


@pytest.mark.parametrize(
    "made",
    [
        Perturbations(),
        Perturbations(sets=SETS[2:3], interventions=INTERVENTIONS[:1], control_texts=0),
        Perturbations(sets=(SETS * 4)[:16], interventions=(INTERVENTIONS * 4)[:16]),
        Perturbations(sets=SETS, size=0.0),
        Perturbations(sets=SETS, size=-1.0),
        Perturbations(sets=SETS, size=1e-7),
    ],
    ids=["default", "one", "256", "nothing changes", "more", "tiny"],
)
def test_interventions(made: Perturbations) -> None:
    shown = page(picking.perturbation_part(JOB, made.section, 3, False, perturbation(made)))
    legible(shown)
    assert shown.height < 17


@pytest.mark.parametrize(
    "made",
    [
        Universal(),
        Universal(models=[f"{LONG}{i}" for i in range(8)], layers=range(3), neurons=9),
        Universal(layers=range(128), neurons=9),
        Universal(still=True, layers=(0, 1)),
        Universal(layers=(3,), blocks=(Block.MLP,), neurons=1),
        Universal(layers=()),
    ],
    ids=["default", "eight models", "many layers", "still", "one neuron", "no block"],
)
def test_universality(made: Universal) -> None:
    shown = page(picking.universality_part(JOB, universality(made)))
    legible(shown)
    assert shown.height < 19


@pytest.mark.parametrize(
    "made",
    [
        Averages(),
        Averages(layers=(7,), methods=(Method.ROLLOUT,)),
        Averages(layers=range(128), methods=tuple(Method)),
        Averages(constant=0.0),
        Averages(constant=-3e-9),
    ],
    ids=["default", "one", "many layers", "zero", "tiny"],
)
def test_averages(made: Averages) -> None:
    model = "state-spaces/mamba-130m"
    part = picking.averages_part(JOB, model, False, averages(made))
    assert part is not None
    legible(page(part))
