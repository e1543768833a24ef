"""What the pages about facts, interventions, other models and averages show."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import numpy as np
import pytest

from schemas.knowledge_neurons import FactOverlap
from schemas.names import Block, Method
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
from tests.workers.figures.looking import boxes, dots_of, look, words_of
from tests.workers.figures.neuron_documents import JOB
from workers.figures import picking, style
from workers.figures.averages import averages as averages_page
from workers.figures.blocks import NAMES
from workers.figures.colours import KINDS
from workers.figures.facts import facts
from workers.figures.interventions import MOST_ROWS, interventions
from workers.figures.marks import LINE, MOVE, Outline, Picture
from workers.figures.page import Page
from workers.figures.panels import VOID
from workers.figures.parts import KnowledgePart, PerturbationPart, UniversalityPart
from workers.figures.scale import Scale
from workers.figures.universal import BASELINE, MOST_PAIRS, universal

pytestmark = pytest.mark.filterwarnings("error")


def knowledge_part(made: Facts) -> KnowledgePart:
    return picking.knowledge_part(JOB, made.section, False, knowledge(made))


def perturbation_part(made: Perturbations) -> PerturbationPart:
    return picking.perturbation_part(JOB, made.section, 3, False, perturbation(made))


def universality_part(made: Universal) -> UniversalityPart:
    return picking.universality_part(JOB, universality(made))


def pictures(page: Page) -> list[Picture]:
    return [mark for mark in page.marks if isinstance(mark, Picture)]


def segments(page: Page, colour: str) -> list[np.ndarray]:
    """Straight lines of a colour: (n, 2, 2) of both ends, an outline each."""
    return [
        mark.vertices.reshape(-1, 2, 2)
        for mark in page.marks
        if isinstance(mark, Outline)
        and mark.stroke == colour
        and mark.width
        and (mark.steps == np.tile([MOVE, LINE], len(mark.steps) // 2)).all()
    ]


def test_facts_have_a_cell_for_each_layer_with_its_count() -> None:
    part = knowledge_part(Facts())
    page = facts(part)
    counts = np.array([list(fact.per_layer.values()) for fact in part.knowledge.facts])
    assert (pictures(page)[0].cells == Scale.of(counts.astype(float)).colours(counts)).all()
    cells = pictures(page)[0].box
    within = [
        word.text
        for word in words_of(page)
        if cells.left < word.x < cells.right and cells.top < word.y < cells.bottom
    ]
    assert within == [str(count) for count in counts.ravel()]
    strings = look(page).strings
    assert {"Paris", "The capital of France is", "p", "neurons"} <= set(strings)
    prompts = part.knowledge.facts[0].prompts
    assert f"{np.mean([prompt.probability for prompt in prompts]):.2f}" in strings


def test_many_layers_have_a_colour_bar_instead_of_numbers() -> None:
    page = facts(knowledge_part(Facts(layers=range(48))))
    assert pictures(page)[0].cells.shape[:2] == (5, 48)
    assert [p.cells.shape[0] for p in pictures(page)].count(1) == 2


def test_shared_neurons_fill_the_lower_triangle() -> None:
    part = knowledge_part(Facts(facts=CAPITALS[:4], each=30))
    known = [
        o.model_copy(update={"jaccard": None if o.facts == (0, 3) else o.jaccard})
        for o in part.knowledge.overlaps
    ]
    found = part.knowledge.model_copy(update={"overlaps": known})
    page = facts(part.model_copy(update={"knowledge": found}))
    [matrix] = [p.cells for p in pictures(page) if p.cells.shape == (3, 3, 4)]
    assert (matrix[..., 3] == 255).tolist() == np.tri(3, dtype=bool).tolist()
    values = {o.facts: o.jaccard for o in known}
    scale = Scale.of(np.array([v for v in values.values() if v is not None]), signed=False)
    assert scale.limit > 0
    for (one, other), value in values.items():
        wanted = VOID if value is None else tuple(scale.colours(np.array([value]))[0])
        assert tuple(matrix[other - 1, one, :3]) == wanted


def test_the_order_of_the_two_facts_of_an_overlap_does_not_matter() -> None:
    part = knowledge_part(Facts(facts=CAPITALS[:2]))
    pages = []
    for pair in ((0, 1), (1, 0)):
        overlaps = [FactOverlap(facts=pair, jaccard=0.25, shared=5)]
        found = part.knowledge.model_copy(update={"overlaps": overlaps})
        pages.append(facts(part.model_copy(update={"knowledge": found})).render())
    assert pages[0] == pages[1]


def test_attributions_stand_at_their_layers_and_the_strongest_are_named() -> None:
    part = knowledge_part(Facts(layers=(2, 9), blocks=(Block.MLP,)))
    page = facts(part)
    neurons = [neuron for fact in part.knowledge.facts for neuron in fact.neurons]
    centres = dots_of(page, KINDS[1])[0]
    assert len(centres) == len(neurons)
    assert len(np.unique(centres[:, 0].round(6))) == 2
    up = centres[:, 1].max() - centres[:, 1]
    values = np.array([neuron.attribution for neuron in neurons])
    assert up / up.max() == pytest.approx((values - values.min()) / np.ptp(values), abs=1e-9)
    strongest = max(neurons, key=lambda neuron: neuron.attribution)
    strings = look(page).strings
    assert f"{strongest.layer}, MLP" in strings
    assert str(strongest.neuron) in strings
    assert f"{strongest.attribution:.3g}" in [s.rstrip("0") for s in strings]


def test_a_neuron_of_several_facts_is_one_row_that_names_the_strongest_first() -> None:
    part = knowledge_part(Facts(facts=CAPITALS[:2], each=1))
    first, second = part.knowledge.facts
    [neuron] = first.neurons
    stronger = neuron.model_copy(update={"attribution": 0.75})
    shared = second.model_copy(update={"neurons": [stronger]})
    found = part.knowledge.model_copy(update={"facts": [first, shared]})
    page = facts(part.model_copy(update={"knowledge": found}))
    strings = look(page).strings
    assert strings.count(f"{neuron.layer}, {NAMES[neuron.block]}") == 1
    assert "0.750" in strings
    places = {word.text: word.x for word in words_of(page)}
    assert places["1 →"] < places["0 →"]
    assert any(string.startswith("1 neuron of 2 facts") for string in strings)


def effects(part: PerturbationPart, field: str) -> np.ndarray:
    return np.array([getattr(result.effect, field) for result in part.perturbation.results])


def test_bars_are_the_changes_and_lines_the_random_intervals() -> None:
    part = perturbation_part(Perturbations(control_texts=0))
    page = interventions(part)
    less = [bars for bars in boxes(page, style.NEGATIVE) if len(bars)]
    # The first is the legend's; then the probability and the logit.
    for bars, field in zip(less[1:], ("probability", "logit"), strict=True):
        values = effects(part, field)
        assert (values < 0).all()
        lengths = bars[:, 2] - bars[:, 0]
        assert lengths / lengths.max() == pytest.approx(values / values.min())
    [_, probability, *_] = segments(page, "#000000")
    unit = (less[1][:, 2] - less[1][:, 0]).max() / -effects(part, "probability").min()
    zero = less[1][0, 2]
    for ends, result in zip(probability, part.perturbation.results, strict=True):
        interval = result.random.probability
        assert (ends[:, 0] - zero) / unit == pytest.approx([interval.low, interval.high], abs=1e-9)


def test_the_controls_have_the_scales_of_the_target() -> None:
    part = perturbation_part(Perturbations())
    page = interventions(part)
    bars = [b for b in boxes(page, style.NEGATIVE)[1:] if len(b)]
    target, control = bars[0], bars[2]
    unit = (target[:, 2] - target[:, 0]).max() / -effects(part, "probability").min()
    wanted = [
        -result.control.probability
        for result in part.perturbation.results
        if result.control is not None and result.control.probability < 0
    ]
    assert (control[:, 2] - control[:, 0]) / unit == pytest.approx(wanted)
    assert "Control texts" in look(page).strings
    alone = interventions(perturbation_part(Perturbations(control_texts=0)))
    assert "Control texts" not in look(alone).strings


def test_of_many_conditions_the_largest_are_shown_and_said_to_be() -> None:
    part = perturbation_part(
        Perturbations(sets=(SETS * 4)[:16], interventions=(INTERVENTIONS * 4)[:16])
    )
    page = interventions(part)
    changes = effects(part, "probability")
    wanted = np.sort(np.abs(changes))[-MOST_ROWS:]
    first = np.vstack([boxes(page, style.NEGATIVE)[1], boxes(page, style.POSITIVE)[1]])
    lengths = np.sort(first[:, 2] - first[:, 0])
    assert lengths / lengths.max() == pytest.approx(wanted / wanted.max())
    assert "24 of 256 conditions, those that change the target's probability most" in (
        look(page).strings
    )


def test_sets_and_interventions_are_said_in_words() -> None:
    strings = set(look(interventions(perturbation_part(Perturbations(sets=SETS)))).strings)
    assert {
        "0: 10 by attribution",
        "1: 200 by knowledge neurons",
        "2: layer 47 MLP 11007",
        "3: 10000 by attention weighted",
        "4: 3 given",
        "zero",
        "mean",
        "noise 0.5 std",
        "× −1.25",
    } <= strings


def test_boxes_are_the_quartiles_and_grounds_the_baselines() -> None:
    part = universality_part(Universal(blocks=(Block.MLP,)))
    page = universal(part)
    # The legend's swatch is the first of either colour; of each pair, quartiles before shares.
    found = boxes(page, KINDS[1])[1:]
    grounds = boxes(page, BASELINE)[1:]
    for index, pair in enumerate(part.pairs):
        quartiles, shares = found[2 * index : 2 * index + 2]
        ground, chances = grounds[2 * index : 2 * index + 2]
        zero = shares[0, 3] - 0.5 - 0.3
        for block, box, below in zip(pair.blocks, quartiles, ground, strict=True):
            assert block.found is not None and block.baseline is not None
            # Inches of a correlation of 1 in a panel of 1.2 that ends at 1.05.
            unit = 1.2 / 1.05
            assert (zero - box[[3, 1]]) / unit == pytest.approx([block.found[1], block.found[3]])
            ends = [block.baseline[0], block.baseline[4]]
            assert (zero - below[[3, 1]]) / unit == pytest.approx(ends)
        heights = shares[:, 3] - shares[:, 1]
        wanted = np.array([block.fraction_universal for block in pair.blocks])
        assert heights / heights.max() == pytest.approx(wanted / wanted.max())
        by_chance = np.array([block.fraction_by_chance for block in pair.blocks])
        beneath = (chances[:, 3] - chances[:, 1]) / heights.max()
        assert beneath == pytest.approx(by_chance / wanted.max())


def test_blocks_of_one_value_are_drawn_as_lines() -> None:
    page = universal(universality_part(Universal(layers=(0,), blocks=(Block.MLP,), neurons=1)))
    assert sum(len(found) for found in segments(page, KINDS[1])) >= 2
    wide = [s for s in segments(page, KINDS[1]) if len(s) and np.ptp(s[0, :, 0]) > 0.05]
    assert len(wide) == 2


def test_every_pair_of_models_has_a_cell_and_the_most_alike_have_panels() -> None:
    part = universality_part(Universal(models=[f"m{i}" for i in range(6)], neurons=40))
    strings = look(universal(part)).strings
    cells = sorted(f"{100 * pair.fraction_universal:.1f}" for pair in part.pairs)
    assert sorted(s for s in strings if s.count(".") == 1 and s in cells) == cells
    headed = [s for s in strings if len(s) == len("1 in 2") and s[1:5] == " in "]
    assert len(headed) == 2 * MOST_PAIRS
    assert not [s for s in strings if s.endswith("…")], "the footer is whole"
    best = max(part.pairs, key=lambda pair: pair.fraction_universal)
    assert " in ".join(str(int(name[1]) + 1) for name in best.models) in headed[:2]
    assert "6 models against each other; layer by layer the 4 most alike of 15 pairs" in strings


def averaged(made: Averages) -> Page:
    part = picking.averages_part(JOB, "state-spaces/mamba-130m", False, averages(made))
    assert part is not None
    return averages_page(part)


def test_whiskers_are_the_intervals_of_each_method() -> None:
    made = Averages(methods=(Method.ROLLOUT, Method.CONTRIBUTION))
    page = averaged(made)
    for colour, method in zip(KINDS, made.methods, strict=False):
        found = [a.effective_keys for a in averages(made) if a.method == method]
        whiskers = [s for s in segments(page, colour) if np.ptp(s[0, :, 0]) == 0]
        # The panels in order; effective keys are the second.
        ends, centres = whiskers[1], dots_of(page, colour)[1]
        assert centres[:, 0] == pytest.approx(ends[:, 0, 0])
        means = np.array([interval.mean for interval in found])
        unit = (centres[0, 1] - centres[1, 1]) / (means[1] - means[0])
        for centre, end, interval in zip(centres, ends, found, strict=True):
            above, below = (centre[1] - end[:, 1]) / unit
            wanted = [interval.high - interval.mean, interval.low - interval.mean]
            assert [above, below] == pytest.approx(wanted)
    assert {"Attention rollout", "Contribution"} <= set(look(page).strings)


def test_intervals_of_many_layers_are_bands() -> None:
    made = Averages(layers=range(48), methods=(Method.ROLLOUT,))
    bands = [
        mark.vertices
        for mark in averaged(made).marks
        if isinstance(mark, Outline) and mark.fill is not None and len(mark.fill) == 9
    ]
    assert [len(band) for band in bands] == [96] * 4
    found = [average.first_token_mass for average in averages(made)]
    heights = bands[2][:48][:, 1] - bands[2][48:][::-1][:, 1]
    wanted = np.array([interval.high - interval.low for interval in found])
    assert np.abs(heights) / np.abs(heights).max() == pytest.approx(wanted / wanted.max())
