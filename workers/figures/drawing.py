"""From what a figure shows to its page."""

from schemas.job import Shows
from workers.figures.depths import depths
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.plan import ComparisonPart, Part
from workers.figures.sheet import sheet
from workers.figures.side_by_side import side_by_side
from workers.figures.strip import token_strip


def page_about(part: Part, shows: Shows) -> Page:
    """The page of a text about a layer and a method, a layer, or a method; of a comparison about
    a text and a method, or a method.

    Raises ValueError for a page about none of these.
    """
    if isinstance(part, ComparisonPart):
        return _compared(part, shows)
    match shows.layer, shows.method:
        case int(layer), None:
            return token_strip(part, layer)
        case None, method if method is not None:
            return overview(part, method)
        case int(layer), method if method is not None:
            return sheet(part, layer, method)
    raise ValueError("a page is about a layer, a method or both")


def _compared(part: ComparisonPart, shows: Shows) -> Page:
    if shows.method is None:
        raise ValueError("a page of a comparison is about a method")
    if shows.text is None:
        return depths(part, shows.method)
    return side_by_side(part, shows.text, shows.method)
