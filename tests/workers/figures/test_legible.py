"""Nothing overlaps and nothing leaves the page, at every length and for any token."""

import pytest

from schemas.names import Method
from schemas.result import ResultDocument
from tests.workers.figures.documents import Shape, document, parts, prose, recall_words
from tests.workers.figures.looking import HOSTILE, look
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.sheet import sheet
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


def legible(page: Page) -> None:
    seen = look(page)
    assert seen.touching() == []
    assert seen.outside(page) == []


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
