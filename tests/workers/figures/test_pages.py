"""What the pages show, against the stored numbers."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

from itertools import pairwise

import numpy as np
import pytest

from schemas.artifact_names import Subject
from schemas.names import Method
from schemas.result import MethodAttention, ResultDocument, TextResult
from tests.workers.figures.documents import Shape, document, parts, prose, recall_words
from tests.workers.figures.looking import look
from workers.figures import style
from workers.figures.captions import METHODS
from workers.figures.colours import DIVERGING
from workers.figures.labels import TokenAxis
from workers.figures.marks import CURVE, Outline, Picture, Words
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.parts import TextPart
from workers.figures.scale import Scale, thin
from workers.figures.sheet import sheet
from workers.figures.strip import MOST_WORDS, NEIGHBOURS, token_strip

pytestmark = pytest.mark.filterwarnings("error")


def matrix_image(page: Page) -> np.ndarray:
    return next(cells for cells in pictures(page) if min(cells.shape[:2]) > 1)


def pictures(page: Page) -> list[np.ndarray]:
    return [mark.cells for mark in page.marks if isinstance(mark, Picture)]


def outlines(page: Page) -> list[Outline]:
    return [mark for mark in page.marks if isinstance(mark, Outline)]


def words_shown(page: Page) -> list[str]:
    return [m.text for m in page.marks if isinstance(m, Words) and m.size == style.BODY]


def words_boxes(page: Page) -> list[Outline]:
    return [outline for outline in outlines(page) if CURVE in outline.steps]


def inside(word: Words, box: Outline) -> bool:
    low, high = box.vertices.min(axis=0), box.vertices.max(axis=0)
    return bool((low < (word.x, word.y)).all() and ((word.x, word.y) < high).all())


def labels(page: Page) -> list[str]:
    """Words that end at an axis or an edge, in the order in which they are drawn."""
    return [mark.text for mark in page.marks if isinstance(mark, Words) and mark.align == 1.0]


def follow(wanted: list[str], found: list[str]) -> bool:
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found)))


def test_all_neurons_are_one_path() -> None:
    made = document(Shape([recall_words(6)], neurons=8192, layers=(0,)))
    page = sheet(parts(made)[0], 0, Method.ROLLOUT)
    bars = [outline.vertices for outline in outlines(page) if len(outline.vertices) > 1000]
    assert [len(vertices) for vertices in bars] == [2 * 8192, 2 * 8192]
    lengths = bars[0][0::2, 1] - bars[0][1::2, 1]
    activation = np.array(
        made.results[0].attention_analysis[0].methods[Method.ROLLOUT].neurons.activation
    )
    share = activation / np.abs(activation).max()
    assert lengths / np.abs(lengths).max() == pytest.approx(share)


def test_nothing_is_drawn_above_the_diagonal() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    image = matrix_image(sheet(parts(made)[0], 0, Method.ATTENTION_WEIGHTED))
    opaque = image[..., 3] == 255
    assert (opaque == np.tri(9, dtype=bool)).all()


def test_the_matrix_has_the_stored_weights_colours() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    rows = made.results[0].attention_analysis[0].methods[Method.ATTENTION_WEIGHTED].heatmap.rows
    image = matrix_image(sheet(parts(made)[0], 0, Method.ATTENTION_WEIGHTED))
    scale = Scale.of(np.concatenate([np.array(row) for row in rows]))
    assert scale.signed
    for index, row in enumerate(rows):
        assert (image[index, : index + 1, :3] == scale.colours(np.array(row))).all()


def test_the_target_row_alone_is_drawn_as_bars() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    page = sheet(parts(made)[0], 0, Method.CONTRIBUTION)
    assert pictures(page) == []
    strings = look(page).strings
    assert "Token relevance" in strings
    assert "Signed relevance" in strings
    all_rows = document(Shape([recall_words(9)], neurons=8, contribution_rows="all"))
    page = sheet(parts(all_rows)[0], 0, Method.CONTRIBUTION)
    assert matrix_image(page).shape[:2] == (9, 9)


def test_a_sheet_names_target_layer_method_and_self_check() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(5,), contrast="3"))
    strings = "\n".join(look(sheet(parts(made)[0], 5, Method.GRADIENT_GUIDED)).strings)
    assert "Gradient-guided attention · layer 5" in strings
    assert "explains: logit of “7” minus logit of “3” after “river”" in strings
    assert "s6 mixer" in strings
    assert "reconstruction error 1.40×10⁻⁶" in strings
    assert "clamp none, rows all, normalisation none" in strings


@pytest.mark.parametrize("method", [Method.ATTENTION_WEIGHTED, Method.ROLLOUT])
def test_a_method_that_knows_no_target_token_names_its_position_only(method: Method) -> None:
    made = parts(document(Shape([recall_words(9)], neurons=8, layers=(5,), contrast="3")))[0]
    for page in (sheet(made, 5, method), overview(made, method)):
        strings = "\n".join(look(page).strings)
        assert "logit of" not in strings
        assert "read at position 8, “river”, of 9 tokens" in strings


def test_the_target_row_alone_of_every_method_is_drawn_as_its_relevance() -> None:
    made = target_rows(parts(document(Shape([recall_words(9)], neurons=8, layers=(0,))))[0])
    for method in Method:
        page = sheet(made, 0, method)
        assert pictures(page) == []
        seen = look(page)
        assert seen.touching() == []
        assert METHODS[method].relevance in seen.strings


def test_an_importance_that_was_not_computed_is_said_to_be_missing() -> None:
    made = target_rows(parts(document(Shape([recall_words(9)], neurons=50, layers=(0,))))[0])
    facts = made.result.attention_analysis[0].methods[Method.ROLLOUT].neurons
    page = sheet(made, 0, Method.ROLLOUT)
    strings = look(page).strings
    assert any("attention.rows" in text for text in strings)
    assert "10 most active of 50" in strings
    assert "importance" not in strings
    ranked = [str(neuron.neuron) for neuron in facts.top_by_activation]
    assert follow(ranked, labels(page))


def target_rows(part: TextPart) -> TextPart:
    """As with `rows: target`: a single row of every method, and no importance under rollout."""
    layers = {
        layer: analysed.model_copy(
            update={
                "methods": {
                    method: target_row(method, attention)
                    for method, attention in analysed.methods.items()
                }
            }
        )
        for layer, analysed in part.result.attention_analysis.items()
    }
    result = part.result.model_copy(update={"attention_analysis": layers})
    return part.model_copy(update={"result": result})


def target_row(method: Method, attention: MethodAttention) -> MethodAttention:
    whole, facts = attention.heatmap, attention.neurons
    row = whole.model_copy(update={"queries": whole.queries[-1:], "rows": whole.rows[-1:]})
    if method is Method.ROLLOUT:
        ranked = [n.model_copy(update={"importance": None}) for n in facts.top_by_activation]
        facts = facts.model_copy(
            update={"importance": None, "top_by_importance": None, "top_by_activation": ranked}
        )
    return attention.model_copy(update={"heatmap": row, "neurons": facts})


def test_the_ranking_names_neurons_by_importance() -> None:
    made = document(Shape([recall_words(9)], neurons=50, layers=(0,)))
    page = sheet(parts(made)[0], 0, Method.ROLLOUT)
    facts = made.results[0].attention_analysis[0].methods[Method.ROLLOUT].neurons
    ranked = [str(neuron.neuron) for neuron in facts.top_by_importance]
    assert follow(ranked, labels(page))


def test_a_short_text_is_shown_whole_once_per_method() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    shown = words_shown(token_strip(parts(made)[0], 0))
    assert shown == recall_words(9) * len(Method)


def test_words_have_their_relevances_colours() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    page = token_strip(parts(made)[0], 0)
    boxes = words_boxes(page)[-9:]
    signed = made.results[0].attention_analysis[0].methods[Method.CONTRIBUTION].signed_relevance
    values = np.array(signed)
    share = values / np.abs(values).max()
    wanted = DIVERGING[np.round((share + 1) / 2 * (len(DIVERGING) - 1)).astype(int)]
    assert [box.fill for box in boxes] == ["#" + bytes(colour).hex() for colour in wanted]


def test_effects_that_are_all_positive_keep_the_diverging_colours() -> None:
    stored = document(Shape([recall_words(9)], neurons=8, layers=(0,))).model_dump(mode="json")
    layer = stored["results"][0]["attention_analysis"]["0"]
    layer["methods"][Method.CONTRIBUTION]["signed_relevance"] = [2.0, 1.0, *[0.5] * 7]
    made = ResultDocument.model_validate(stored)
    page = token_strip(parts(made)[0], 0)
    assert words_boxes(page)[-9].fill == "#" + bytes(DIVERGING[-1]).hex()


def test_words_stand_above_their_boxes() -> None:
    made = document(Shape([recall_words(9)], neurons=8, layers=(0,)))
    page = token_strip(parts(made)[0], 0)
    under = None
    for mark in page.marks:
        if isinstance(mark, Outline) and CURVE in mark.steps:
            under = mark
        elif isinstance(mark, Words) and mark.size == style.BODY:
            assert under is not None
            assert inside(mark, under)


@pytest.mark.parametrize("length", [350, 512, 4096, 131_072])
def test_a_long_text_shows_windows_and_counts_what_it_leaves_out(length: int) -> None:
    made = _relevant_at(length, [length // 3, 2 * length // 3])
    page = token_strip(part_of(made), 0)
    shown = words_shown(page)
    notes = [text for text in shown if text.startswith("… ")]
    tokens = [text for text in shown if not text.startswith("… ")]
    left_out = sum(int(note.split()[1]) for note in notes)
    assert len(tokens) + left_out == length
    for note, after in pairwise(shown):
        if note.startswith("… "):
            assert note.split()[-1] == f"{after}:"
    assert len(tokens) <= MOST_WORDS + 10
    wanted = {"0", str(length - 1), str(length // 3), str(length // 3 + 4), str(2 * length // 3)}
    assert wanted <= set(tokens)
    assert any(text.startswith(f"{len(tokens)} of {length} tokens") for text in look(page).strings)
    assert page.height < 12


def test_a_gap_of_two_tokens_is_shown_instead_of_noted() -> None:
    near = 2 * NEIGHBOURS + 3
    made = _relevant_at(600, [100, 100 + near, 300, 301 + near])
    shown = words_shown(token_strip(part_of(made), 0))
    assert {str(position) for position in range(100, 100 + near)} <= set(shown)
    assert any(note.startswith("… 3 … ") for note in shown)


def _relevant_at(length: int, peaks: list[int]) -> TextResult:
    """A text whose tokens are their own positions, relevant at a few of them."""
    made = document(
        Shape([["a"] * 3], neurons=4, layers=(0,), methods=(Method.ATTENTION_WEIGHTED,))
    ).results[0]
    relevance = [1.0 if i in peaks else 1e-3 for i in range(length)]
    analysed = made.attention_analysis[0]
    method = analysed.methods[Method.ATTENTION_WEIGHTED]
    method = method.model_copy(update={"token_relevance": relevance})
    token = made.tokens[0]
    tokens = [
        token.model_copy(update={"text": str(i), "start": 6 * i, "end": 6 * i + 5})
        for i in range(length)
    ]
    return made.model_copy(
        update={
            "tokens": tokens,
            "target": made.target.model_copy(update={"position": length - 1}),
            "attention_analysis": {
                0: analysed.model_copy(update={"methods": {Method.ATTENTION_WEIGHTED: method}})
            },
        }
    )


def part_of(result: TextResult) -> TextPart:
    return TextPart(job_id="job", subject=Subject(result.model, 0), result=result)


def test_parts_of_a_word_stand_closer_than_words() -> None:
    made = document(Shape([["un", "animous", "ly", " warned", " of"]], neurons=4, layers=(0,)))
    page = token_strip(parts(made)[0], 0)
    edges = [box.vertices[:, 0] for box in words_boxes(page)]
    gaps = [after.min() - before.max() for before, after in pairwise(edges)][:4]
    assert max(gaps[:2]) < min(gaps[2:])


def test_an_overview_divides_each_layer_by_its_own_largest() -> None:
    made = document(Shape([prose(20)], neurons=4, layers=(0, 4, 9)))
    result = made.results[0]
    page = overview(parts(made)[0], Method.ROLLOUT)
    image = matrix_image(page)
    darkest = image.astype(int).sum(-1).argmin(axis=1)
    relevance = np.array(
        [result.attention_analysis[i].methods[Method.ROLLOUT].token_relevance for i in (0, 4, 9)]
    )
    assert (darkest == relevance.argmax(axis=1)).all()
    assert len(np.unique(image[range(3), darkest], axis=0)) == 1
    strings = look(page).strings
    assert any("each layer divided by its own largest" in text for text in strings)
    assert any(f" at {relevance[0].argmax()}: " in text for text in strings)


def test_an_overview_of_contribution_adds_the_signed_effect() -> None:
    made = document(Shape([recall_words(8)], neurons=4))
    strings = look(overview(parts(made)[0], Method.CONTRIBUTION)).strings
    assert {"Token relevance", "Signed relevance"} <= set(strings)
    assert "Signed relevance" not in look(overview(parts(made)[0], Method.ROLLOUT)).strings


def test_an_overview_of_a_method_that_was_not_asked_for_is_refused() -> None:
    made = document(Shape([recall_words(8)], neurons=4, methods=(Method.ROLLOUT,)))
    with pytest.raises(ValueError, match="contribution"):
        overview(parts(made)[0], Method.CONTRIBUTION)


def test_pooling_keeps_the_largest_magnitude_and_its_sign() -> None:
    values = np.zeros(1300)
    values[700], values[701], values[1299] = -5.0, 3.0, 2.0
    shown, stride = thin(values)
    assert stride == 3
    assert len(shown) == 434
    assert shown[700 // 3] == -5.0
    assert shown[-1] == 2.0
    assert thin(np.arange(4.0))[1] == 1


def test_token_labels_thin_out_and_keep_the_target() -> None:
    tokens = document(Shape([prose(64)], neurons=4)).results[0].tokens
    axis = TokenAxis.of("y", 3.0, tokens, range(64), target=61)
    assert axis.places == [*range(0, 60, 5), 61.0]
    assert axis.strong == len(axis.places) - 1
    assert axis.labels[1] == "5: been"
    short = TokenAxis.of("x", 3.0, tokens, range(3), target=2)
    assert len(short.labels) == 3
