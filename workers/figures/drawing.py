"""From what a figure shows to its page."""

from schemas.job import Shows
from workers.figures.averages import averages
from workers.figures.block_neurons import block_neurons
from workers.figures.depths import depths
from workers.figures.facts import facts
from workers.figures.interventions import interventions
from workers.figures.neuron_layers import neuron_layers
from workers.figures.overview import overview
from workers.figures.page import Page
from workers.figures.parts import (
    AveragesPart,
    BlockPart,
    ComparisonPart,
    KnowledgePart,
    NeuronOverviewPart,
    Part,
    PerturbationPart,
    TextPart,
    UniversalityPart,
)
from workers.figures.sheet import sheet
from workers.figures.side_by_side import side_by_side
from workers.figures.strip import token_strip
from workers.figures.universal import universal


def page_about(part: Part, shows: Shows) -> Page:
    """The page of a part. Of one with several, that which `shows` says.

    Raises ValueError for a page that the part does not have.
    """
    match part:
        case TextPart():
            return _of_text(part, shows)
        case ComparisonPart():
            return _compared(part, shows)
        case BlockPart():
            return block_neurons(part)
        case NeuronOverviewPart():
            return neuron_layers(part)
        case KnowledgePart():
            return facts(part)
        case PerturbationPart():
            return interventions(part)
        case UniversalityPart():
            return universal(part)
        case AveragesPart():
            return averages(part)


def _of_text(part: TextPart, shows: Shows) -> Page:
    """About a layer and a method, a layer, or a method."""
    match shows.layer, shows.method:
        case int(layer), None:
            return token_strip(part, layer)
        case None, method if method is not None:
            return overview(part, method)
        case int(layer), method if method is not None:
            return sheet(part, layer, method)
    raise ValueError("a page of a text is about a layer, a method or both")


def _compared(part: ComparisonPart, shows: Shows) -> Page:
    """About a text and a method, or a method."""
    if shows.method is None:
        raise ValueError("a page of a comparison is about a method")
    if shows.text is None:
        return depths(part, shows.method)
    return side_by_side(part, shows.text, shows.method)
