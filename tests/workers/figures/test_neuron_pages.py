"""What the pages about neurons show, against the stored numbers."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import numpy as np
import pytest

from schemas.names import Block, Mixer, Ranking
from schemas.neurons import Trigger
from tests.workers.figures.looking import boxes, dots_of, look, words_of
from tests.workers.figures.neuron_documents import JOB, SECTION, Neurons, neuron_analysis
from workers.figures import block_neurons as module
from workers.figures import picking, style
from workers.figures.block_neurons import block_neurons
from workers.figures.colours import KINDS
from workers.figures.concordance import GROUND
from workers.figures.marks import Outline, Words
from workers.figures.neuron_layers import neuron_layers
from workers.figures.page import Page
from workers.figures.parts import BlockPart, NeuronOverviewPart

pytestmark = pytest.mark.filterwarnings("error")


def block_part(made: Neurons) -> BlockPart:
    [part, _] = picking.neuron_parts(JOB, SECTION, False, neuron_analysis(made))
    assert isinstance(part, BlockPart)
    return part


def overview_part(made: Neurons) -> NeuronOverviewPart:
    *_, part = picking.neuron_parts(JOB, SECTION, False, neuron_analysis(made))
    assert isinstance(part, NeuronOverviewPart)
    return part


@pytest.fixture(scope="module")
def part() -> BlockPart:
    return block_part(Neurons(layers=(6,), neurons=300))


@pytest.fixture(scope="module")
def page(part: BlockPart) -> Page:
    return block_neurons(part)


def test_the_header_has_the_sparsity(part: BlockPart, page: Page) -> None:
    found = part.sparsity
    explains = page.caption.explains
    assert explains.startswith("300 neurons over 400 tokens of 8 texts")
    assert f"Gini {found.gini:.2f} · Hoyer {found.hoyer:.2f}, per token" in explains
    assert "Neurons · layer 6, mixer (s6)" in look(page).strings


def test_every_neuron_that_varies_is_in_one_bin(part: BlockPart, page: Page) -> None:
    # The first outline of that colour is the histogram.
    bars = boxes(page, style.PLAIN)[0]
    heights = bars[:, 3] - bars[:, 1]
    varying = sum(value > 0 for value in part.std)
    assert 0 < varying < len(part.std)
    most = np.histogram(np.log10([v for v in part.std if v > 0]), bins=48)[0]
    assert heights / heights.max() == pytest.approx(most[most > 0] / most.max())
    assert f"{len(part.std) - varying} at 0" in look(page).strings


def test_what_is_too_small_for_the_histogram_is_counted() -> None:
    made = block_part(Neurons(layers=(6,), neurons=300))
    std = [1e-9] * 7 + [0.0] * 3 + [1.0] * 290
    strings = look(block_neurons(made.model_copy(update={"std": std}))).strings
    assert "3 at 0, 7 below 1.00×10⁻⁶" in strings


def test_dead_and_rare_neurons_are_counted_and_marked(part: BlockPart, page: Page) -> None:
    strings = look(page).strings
    assert f"{part.dead} dead ({100 * part.dead / 300:.1f}%)" in strings
    assert f"{part.rare} rare ({100 * part.rare / 300:.1f}%)" in strings
    [rare, _], [dead, _] = boxes(page, module.RARE), boxes(page, module.DEAD)
    width = 300 * (dead[0, 2] - dead[0, 0]) / part.dead
    assert (rare[0, 2] - rare[0, 0]) / width == pytest.approx(part.rare / 300)
    assert rare[0, 2] == pytest.approx(dead[0, 0])
    assert dead[0, 2] - width == pytest.approx(boxes(page, style.PLAIN)[1][:, 0].min())


def test_a_single_dead_neuron_among_thousands_is_seen() -> None:
    made = block_part(Neurons(layers=(0,), neurons=11_008, quiet=0.0))
    active = [*made.fraction_active[1:], 0.0]
    page = block_neurons(made.model_copy(update={"fraction_active": active, "dead": 1}))
    dead = boxes(page, module.DEAD)[0][0]
    assert dead[2] - dead[0] > 1.5 / style.DPI
    assert "1 dead (< 0.1%)" in look(page).strings


@pytest.mark.parametrize("ranking", [Ranking.VARIANCE, Ranking.ATTRIBUTION])
def test_a_row_has_the_neuron_its_value_and_its_token(
    part: BlockPart, page: Page, ranking: Ranking
) -> None:
    profiles = {profile.neuron: profile for profile in part.profiles}
    title = "High-variance neurons" if ranking is Ranking.VARIANCE else "Attribution"
    [heading] = [word for word in words_of(page) if word.text == title]
    # The column ends where its title does; the ranking's own rows are the first eight.
    column = [w for w in words_of(page) if w.y > heading.y and w.align == 1.0 and w.x < 0.75]
    numbers = column[1 : 1 + picking.RANKED]
    assert [number.text for number in numbers] == [
        str(ranked.neuron) for ranked in part.rankings[ranking]
    ]
    for number in numbers:
        top = profiles[int(number.text)].top_tokens[0]
        line = [word for word in words_of(page) if word.y == number.y]
        token = next(word for word in line if word.text == top.token.strip())
        [ground] = [mark for mark in grounds(page) if holds(mark, token)]
        before = [w for w in line if w.align == 1.0 and 3.0 < w.x < ground.vertices[:, 0].min()]
        assert all(top.before.endswith(word.text.lstrip("…")) for word in before)
        assert len(before) == bool(top.before)


def grounds(page: Page) -> list[Outline]:
    return [mark for mark in page.marks if isinstance(mark, Outline) and mark.fill == GROUND]


def holds(mark: Outline, word: Words) -> bool:
    low, high = mark.vertices.min(axis=0), mark.vertices.max(axis=0)
    return bool((low < (word.x, word.y)).all() and ((word.x, word.y) < high).all())


def test_attributions_have_bars_of_their_signs(part: BlockPart, page: Page) -> None:
    values = np.array([ranked.value for ranked in part.rankings[Ranking.ATTRIBUTION]])
    assert (values > 0).any() and (values < 0).any()
    for mask, colour in ((values > 0, style.POSITIVE), (values < 0, style.NEGATIVE)):
        found = next(bars for bars in boxes(page, colour) if len(bars) == mask.sum())
        lengths = found[:, 2] - found[:, 0]
        assert lengths / lengths.max() == pytest.approx(
            np.abs(values[mask]) / np.abs(values[mask]).max()
        )


def trigger(n: int, share: float) -> Trigger:
    tokens = [" one", " two", " three"][-n:]
    return Trigger(n=n, ids=list(range(n)), tokens=tokens, share=share, lift=2.0)


@pytest.mark.parametrize(
    ("triggers", "shown", "share"),
    [
        ([trigger(1, 0.9), trigger(2, 0.6), trigger(3, 0.3)], "two·three", "60%"),
        ([trigger(1, 0.4), trigger(2, 0.3)], "three", "40%"),
        ([trigger(1, 0.5), trigger(2, 0.5), trigger(3, 0.5)], "one·two·three", "50%"),
    ],
)
def test_the_longest_usual_trigger_is_shown(
    part: BlockPart, triggers: list[Trigger], shown: str, share: str
) -> None:
    profiles = [p.model_copy(update={"triggers": triggers}) for p in part.profiles]
    strings = look(block_neurons(part.model_copy(update={"profiles": profiles}))).strings
    assert strings.count(shown) == strings.count(share) == 16


def test_a_neuron_without_a_trigger_has_a_dash(part: BlockPart) -> None:
    profiles = [p.model_copy(update={"triggers": []}) for p in part.profiles]
    strings = look(block_neurons(part.model_copy(update={"profiles": profiles}))).strings
    assert strings.count("–") == 16


def test_position_information_has_the_line_of_chance(part: BlockPart) -> None:
    high = part.model_copy(update={"chance_information": 10.0})
    for made, longest in ((part, None), (high, 10.0)):
        page = block_neurons(made)
        values = [r.value for r in made.rankings[Ranking.POSITION_INFORMATION]]
        limit = max(values) if longest is None else longest
        [bars] = [
            b
            for b in boxes(page, style.PLAIN)
            if len(b) == 8 and (b[:, 2] - b[:, 0])[0] > 0 and 2.6 < b[0, 0] < 3.0
        ]
        unit = (bars[0, 2] - bars[0, 0]) / values[0]
        line = bars[0, 0] + made.chance_information * unit
        assert any(
            isinstance(mark, Outline)
            and mark.width == 0.8
            and mark.stroke == style.INK
            and mark.vertices[:, 0] == pytest.approx(line)
            for mark in page.marks
        )
        assert bars[0, 0] + limit * unit <= 4.3


def test_what_a_block_lacks_is_left_out() -> None:
    one = block_part(
        Neurons(layers=(0,), blocks=((Block.MLP, None),), neurons=30, texts=1, attribution=False)
    )
    strings = look(block_neurons(one)).strings
    assert not {"Attribution", "Variance by text", "Variance of Δ"} & set(strings)
    assert "Neurons · layer 0, MLP" in strings
    heads = block_part(Neurons(layers=(0,), blocks=((Block.MIXER, Mixer.SSD),), neurons=30))
    shown = look(block_neurons(heads)).strings
    assert "over tokens, by head" in shown


def test_every_kind_of_block_has_a_line_through_its_numbers() -> None:
    kinds = ((Block.MIXER, Mixer.S6), (Block.MLP, None))
    part = overview_part(Neurons(layers=(0, 3, 4, 11), neurons=60, blocks=kinds))
    page = neuron_layers(part)
    strings = look(page).strings
    assert {"mixer (s6)", "MLP", "4 layers, 60 neurons each"} <= set(strings)
    for colour, block in zip(KINDS, Block, strict=False):
        of_block = [summary for summary in part.summaries if summary.block is block]
        # The panels in their order.
        for panel, values in (
            (0, [s.sparsity.gini for s in of_block]),
            (1, [s.sparsity.hoyer_per_token for s in of_block]),
            (4, [s.mean_magnitude for s in of_block]),
        ):
            centres = dots_of(page, colour)[panel]
            across, up = centres[:, 0] - centres[0, 0], centres[0, 1] - centres[:, 1]
            assert across / across[-1] == pytest.approx([0, 3 / 11, 4 / 11, 1])
            rise = np.array(values) - values[0]
            assert up / np.abs(up).max() == pytest.approx(rise / np.abs(rise).max(), abs=1e-6)
    # Only the mixer has a step.
    assert len(dots_of(page, KINDS[0])) == len(dots_of(page, KINDS[1])) + 1


def test_mixers_of_different_kinds_have_lines_of_their_own() -> None:
    both = overview_part(Neurons(layers=(0, 2), neurons=20))
    other = [s.model_copy(update={"mixer": Mixer.SOFTMAX, "layer": 1}) for s in both.summaries[:1]]
    page = neuron_layers(both.model_copy(update={"summaries": [*both.summaries, *other]}))
    assert {"mixer (s6)", "mixer (softmax)", "1 layer, 20 neurons each"} <= set(look(page).strings)
    assert [len(dots_of(page, colour)[0]) for colour in KINDS[:2]] == [2, 1]
