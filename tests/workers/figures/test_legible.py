"""Nothing overlaps and nothing leaves the page, at every length and for any token."""

import pytest

from schemas.names import Method
from schemas.result import ResultDocument, Token
from tests.workers.figures.documents import Shape, document, parts, prose, recall_words
from tests.workers.figures.looking import HOSTILE, legible
from workers.analyses.comparison import compare
from workers.compared import comparison_part
from workers.figures.depths import depths
from workers.figures.overview import overview
from workers.figures.parts import ComparisonPart
from workers.figures.sheet import sheet
from workers.figures.side_by_side import side_by_side
from workers.figures.strip import token_strip

pytestmark = pytest.mark.filterwarnings("error")

TEXTS = {
    "1": recall_words(1),
    "8": recall_words(8),
    "64": prose(64),
    "512": prose(512),
    "1300": prose(1300),
    "hostile": HOSTILE,
    "wide": ["W" * 60] * 40,
}


@pytest.fixture(params=TEXTS, scope="module")
def made(request: pytest.FixtureRequest) -> ResultDocument:
    words = TEXTS[request.param]
    neurons = {"1": 1, "512": 1536, "1300": 8192}.get(request.param, 128)
    return document(Shape([words], neurons=neurons, layers=(0, 7, 23), contrast="\n$7$中"))


@pytest.mark.parametrize("method", [Method.GRADIENT_GUIDED, Method.CONTRIBUTION])
def test_sheet(made: ResultDocument, method: Method) -> None:
    legible(sheet(parts(made)[0], 7, method))


def test_strip(made: ResultDocument) -> None:
    legible(token_strip(parts(made)[0], 23))


def test_overview(made: ResultDocument) -> None:
    legible(overview(parts(made)[0], Method.CONTRIBUTION))


def test_overview_of_many_layers() -> None:
    shape = Shape(
        [prose(24)], layers=tuple(range(80)), neurons=4, methods=(Method.ATTENTION_WEIGHTED,)
    )
    made = document(shape)
    page = overview(parts(made)[0], Method.ATTENTION_WEIGHTED)
    legible(page)
    assert page.height < 12


@pytest.mark.parametrize("constant", [0.0, -2e-5, 1e-310])
def test_constant_data(constant: float) -> None:
    shape = Shape([recall_words(8)], neurons=16, constant=constant)
    made = document(shape)
    for method in (Method.ATTENTION_WEIGHTED, Method.CONTRIBUTION):
        legible(sheet(parts(made)[0], 0, method))
    legible(token_strip(parts(made)[0], 0))
    legible(overview(parts(made)[0], Method.CONTRIBUTION))


def test_numbers_many_orders_of_magnitude_apart() -> None:
    made = document(Shape([prose(150)], neurons=600, spread=4.0, contribution_rows="all"))
    for method in (Method.ATTENTION_WEIGHTED, Method.CONTRIBUTION):
        legible(sheet(parts(made)[0], 0, method))
    legible(token_strip(parts(made)[0], 0))


def _compared(words: list[str], models: tuple[str, ...]) -> ComparisonPart:
    made = document(Shape([words], models=models, layers=(0, 1, 5), neurons=16))
    # Another tokenizer, whose tokens end earlier.
    cut = [
        result if index == 0 else result.model_copy(update={"tokens": _shortened(result.tokens)})
        for index, result in enumerate(made.results)
    ]
    found = compare(cut, dict.fromkeys(models, 6))
    return comparison_part(made.job_id, found, cut)


def _shortened(tokens: list[Token]) -> list[Token]:
    """The tokens without their last characters, as many as they are."""
    return [token.model_copy(update={"end": max(token.start, token.end - 1)}) for token in tokens]


MODELS = ("pocket/recall-mamba", "pocket/recall-gpt2", "some/" + "very-long-name-" * 5)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("count", [2, 3])
def test_models_side_by_side(text: str, count: int) -> None:
    part = _compared(TEXTS[text], MODELS[:count])
    page = side_by_side(part, 0, Method.CONTRIBUTION)
    legible(page)
    assert page.height < 25


@pytest.mark.parametrize("count", [2, 8])
def test_models_by_depth(count: int) -> None:
    models = tuple(
        f"{name}{index}" for index, name in enumerate([*MODELS, *MODELS, *MODELS][:count])
    )
    legible(depths(_compared(prose(64), models), Method.ATTENTION_WEIGHTED))


def test_a_comparison_of_one_model_that_can_be_read() -> None:
    legible(depths(_compared(recall_words(1), MODELS[:1]), Method.ROLLOUT))
