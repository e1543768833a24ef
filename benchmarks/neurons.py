"""What the statistics of all neurons of all layers add to a forward pass, on the CPU."""

from collections.abc import Iterator, Sequence

from benchmarks.row import Promise, Row
from benchmarks.shape import WHOLE, shape, text
from benchmarks.timing import Contest, Effort
from catalogue.locate import locate
from schemas.sections import NeuronSection
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel, load
from workers.neuron_reading import NeuronReading
from workers.tracing import TextTrace, TraceRequest, trace

TOKENS = 1024
# One long text, and as many tokens of short ones.
TEXTS = (1, 32)


def rows(quick: bool) -> Iterator[Row]:
    model = shape(quick)
    settings = model.settings
    loaded = load(locate(model.name, settings), settings)
    sites = sites_of(loaded.model, range(model.layers))
    for count in TEXTS:
        length = TOKENS // count
        ids = [token.id for token in loaded.tokeniser.encode(text(length))]
        yield Contest(
            what=f"forward pass with the statistics of every neuron of every layer, {model.told}, "
            f"{count} x L={length}",
            against="the bare forward pass",
            promise=Promise("<=", 1.15),
            promised_at="" if model == WHOLE else f"{WHOLE.told}, {count} x L={length}",
        ).between(
            lambda ids=ids, count=count: read(loaded, [ids] * count, sites),
            lambda ids=ids, count=count: read(loaded, [ids] * count, []),
            Effort(1, 1.0, warm=True) if quick else Effort(7, 120.0),
        )


def read(
    loaded: LoadedModel, texts: Sequence[Sequence[int]], sites: Sequence[Site]
) -> list[TextTrace]:
    """The tracing pass of a job that asks for neurons at these sites and for no attention."""
    section = NeuronSection()
    reading = NeuronReading(
        sites, [len(ids) for ids in texts], section.active_above, section.top_tokens
    )
    requests = [
        TraceRequest(ids, text=index, reading=reading if sites else None)
        for index, ids in enumerate(texts)
    ]
    return trace(loaded, requests, set(), set())
