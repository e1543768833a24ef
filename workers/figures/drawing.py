"""From what a figure shows to its page."""

from schemas.job import Shows
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.plan import TextPart
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip


def page_about(part: TextPart, shows: Shows) -> Page:
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
