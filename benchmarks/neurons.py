"""What the statistics of all neurons of all layers cost, in time and in memory, on the CPU."""

from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.memory import GB, peak_added
from benchmarks.row import Promise, Row, Spread
from benchmarks.shape import WHOLE, shape, text
from benchmarks.timing import Contest, Effort
from catalogue.locate import locate
from schemas.sections import NeuronSection
from workers.kernels.activation_moments import ActivationMoments, Positions
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel, load
from workers.neuron_reading import POSITION_BINS, NeuronReading
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace

TOKENS = 1024
# One long text, and as many tokens of short ones.
TEXTS = (1, 32)
# For the memory: the neurons of 24 layers, and how many texts they read.
NEURONS = 24 * 1536
FEW, MANY = 500, 5000


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
        what=f"memory of the strongest tokens of {NEURONS} neurons, {MANY} texts",
        against=f"of {FEW} texts",
        measured=Spread.of([many / few]),
        promise=Promise("<=", 1.1),
        ours=Spread.of([many / GB]),
        other=Spread.of([few / GB]),
        timed_in="GB",
        samples={"ours": [many], "other": [few]},
    )


def search(count: int) -> Callable[[], object]:
    """Statistics and strongest tokens of so many short texts, whose activations come in batches."""
    batch, length = 20, 6
    x = torch.randn(batch, length, NEURONS, generator=torch.Generator().manual_seed(0))
    positions = Positions.of([length] * count, POSITION_BINS)
    top = NeuronSection().top_tokens
    rows, lengths = range(batch), [length] * batch
    # The kernel is compiled, or loaded, before.
    ActivationMoments(NEURONS, positions, 0.0, top).read(x, rows, rows, lengths)

    def call() -> ActivationMoments:
        moments = ActivationMoments(NEURONS, positions, 0.0, top)
        for first in range(0, count, batch):
            moments.read(x, rows, range(first, first + batch), lengths)
        return moments

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
