"""From a figure of the plan to its bytes."""

from collections.abc import Iterator

from schemas.job import Shows
from schemas.result import ResultDocument
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.plan import Drawing, TextPart, figures, parts
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip


def draw(document: ResultDocument) -> Iterator[Drawing]:
    """Draw every figure of a stored result, one at a time, as it is asked for.

    Safe to run in several threads; nothing stays behind. No model and no tensor is needed.
    """
    for part in parts(document):
        for figure in figures(part):
            yield Drawing(figure.name, page(part, figure.shows).render(), figure.shows)


def page(part: TextPart, shows: Shows) -> Page:
    """The page about a layer and a method, a layer, or a method.

    Raises ValueError for a page about neither.
    """
    match shows.layer, shows.method:
        case int(layer), None:
            return token_strip(part, layer)
        case None, method if method is not None:
            return overview(part, method)
        case int(layer), method if method is not None:
            return sheet(part, layer, method)
    raise ValueError("a page is about a layer, a method or both")
