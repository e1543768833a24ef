"""What the statistics of all neurons of all layers cost, in time and in memory, on the CPU."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.memory import GB, peak_added
from benchmarks.row import Promise, Row, Spread
from benchmarks.shape import WHOLE, shape, text
from benchmarks.timing import Contest, Effort
from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL
from schemas.sections import NeuronSection
from schemas.settings import Settings
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel, load
from workers.neuron_reading import NeuronReading
from workers.tracing import TextTrace, TraceRequest, trace, trace_each

TOKENS = 1024
# One long text, and as many tokens of short ones.
TEXTS = (1, 32)
# Of short texts, for the memory: as many as fill a batch, and four times as many.
FEW, MANY = 1250, 5000
WORDS = "apple 3 river 7 stone 1 house 4 apple 2 river"


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

    few, many = (peak_added("benchmarks.neurons:search", count) for count in (FEW, MANY))
    yield Row(
        what=f"memory of the strongest tokens of every neuron, {DEFAULT_MODEL}, {MANY} short texts",
        against=f"of {FEW} of them",
        measured=Spread.of([many / few]),
        promise=Promise("<=", 1.2),
        ours=Spread.of([many / GB]),
        other=Spread.of([few / GB]),
        timed_in="GB",
        samples={"ours": [many], "other": [few]},
    )


def search(count: int) -> Callable[[], object]:
    """A pass over so many texts of different lengths, with nothing kept of them but statistics."""
    settings = Settings(device="cpu")
    loaded = load(locate(DEFAULT_MODEL, settings), settings)
    words = WORDS.split()
    texts = [loaded.tokeniser.ids(" ".join(words[: 4 + i % 8])) for i in range(count)]
    sites = sites_of(loaded.model, range(8))
    # The kernels are compiled, or loaded, before.
    read(loaded, texts[:FEW], sites)
    section = NeuronSection()
    reading = NeuronReading(
        sites, [len(ids) for ids in texts], section.active_above, section.top_tokens
    )
    requests = [TraceRequest(ids, text=i, reading=reading) for i, ids in enumerate(texts)]

    def call() -> None:
        for _ in trace_each(loaded, requests, set(), set()):
            pass

    return call


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
