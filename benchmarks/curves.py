"""How time and memory grow: points of the plots of docs/performance.md, ours and the peers'."""

from collections.abc import Callable, Iterator
from functools import cache, partial

from transformers import MambaForCausalLM

from benchmarks.matrix import one_product
from benchmarks.memory import GB, peak_added
from benchmarks.peers import attention, passes
from benchmarks.row import Row, Spread
from benchmarks.shape import WHOLE
from benchmarks.systems import CHANNELS, initialised, unforgetting
from benchmarks.timing import Call, Effort, take_turns, timed
from catalogue.locate import locate
from workers.kernels.hidden_attention import attention_matrix
from workers.models.loading import LoadedModel, load
from workers.traces import TraceRequest
from workers.tracing import trace

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = (256, 512, 1024, 2048, 4096)
TEXTS = (1, 2, 4, 8, 16)
# Tokens while the channels grow, and of each text while the texts do.
FIXED, EACH = 512, 64
OURS, PRODUCT = "ours", "one sgemm of the same flops"
PER_CHANNEL, ROWS = "vectorised per channel", "rows carried forward"
LOOPS, MATERIALISED = "published loops", "materialised (computed)"
OWN_SCAN, ONE_BY_ONE = "transformers' own fallback, batched", "ours, one text a pass"
# Channels on which slow ways are timed, and the longest text on which each is.
_SHARE = {PER_CHANNEL: 8, ROWS: 128}
_LONGEST = {PER_CHANNEL: 2048, ROWS: 4096}
# Texts up to which transformers' own scan is run: it takes minutes and gigabytes.
_MOST_TEXTS = 8
# A point is seen or not at this effort; what is promised is measured elsewhere with more.
_EFFORT, _QUICK = Effort(3, 30.0), Effort(1, 1.0)
_WAYS: dict[str, Callable[..., object]] = {
    PER_CHANNEL: attention.per_channel,
    ROWS: attention.rows_carried_forward,
}


def rows(quick: bool) -> Iterator[Row]:
    effort = _QUICK if quick else _EFFORT
    for length in LENGTHS[:3] if quick else LENGTHS:
        yield from _matrix_points("tokens", length, (length, CHANNELS), effort)
    for width in WIDTHS[:3] if quick else WIDTHS:
        yield from _matrix_points("channels", width, (FIXED, width), effort)
    yield from _text_points(TEXTS[:3] if quick else TEXTS, effort)


def _matrix_points(curve: str, at: int, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    """Seconds and bytes of one matrix of (tokens, channels) by every way that can take it."""
    length, channels = size
    system = initialised(length, channels)
    slowest = unforgetting(length, channels)
    contenders: dict[str, Call] = {
        OURS: lambda: attention_matrix(*system),
        f"{OURS}, nothing forgotten": lambda: attention_matrix(*slowest),
        PRODUCT: one_product(length, channels),
    }
    scale = {}
    for way, call in _WAYS.items():
        if length <= _LONGEST[way]:
            share = min(_SHARE[way], channels)
            contenders[way] = partial(call, system, share)
            scale[way] = channels / share
    if length <= 128:
        contenders[LOOPS] = lambda: attention.triple_loop(system, channels, [63])
        scale[LOOPS] = length**3 / 6 / (63 * 64 / 2)
    found = take_turns({name: timed(call) for name, call in contenders.items()}, effort)
    for name, seconds in found.items():
        yield _point(f"time-{curve}", name, at, "s", [scale.get(name, 1.0) * s for s in seconds])
    for name in (OURS, *_WAYS):
        if name == OURS or length <= _LONGEST[name]:
            added = peak_added("benchmarks.curves:prepared", [OURS, *_WAYS].index(name), *size)
            yield _point(f"memory-{curve}", name, at, "GB", [added / GB])
    yield _point(f"memory-{curve}", MATERIALISED, at, "GB", [channels * length**2 * 4 / GB])


def prepared(way: int, length: int, channels: int) -> Call:
    """One matrix by a way of `OURS` and `_WAYS`, everything compiled and the system there."""
    attention_matrix(*initialised(16))
    system = unforgetting(length, channels)
    if way == 0:
        return lambda: attention_matrix(*system)
    name = list(_WAYS)[way - 1]
    return lambda: _WAYS[name](system, min(_SHARE[name], channels))


def _text_points(counts: tuple[int, ...], effort: Effort) -> Iterator[Row]:
    for count in counts:
        ways = {
            name: way
            for way, name in enumerate(_PASSES)
            if name != OWN_SCAN or count <= _MOST_TEXTS
        }
        seconds = take_turns({n: timed(_texts(way, count)) for n, way in ways.items()}, effort)
        for name, way in ways.items():
            yield _point("time-texts", name, count, "s", seconds[name])
            added = peak_added("benchmarks.curves:prepared_texts", way, count)
            yield _point("memory-texts", name, count, "GB", [added / GB])


_PASSES = (OURS, ONE_BY_ONE, OWN_SCAN)


def prepared_texts(way: int, count: int) -> Call:
    """A pass over so many texts, after one of a single text."""
    _texts(way, 1)()
    return _texts(way, count)


def _texts(way: int, count: int) -> Call:
    """Target gradients at four layers of texts of `EACH` tokens, by one of `_PASSES`."""
    ids = [index % 90 for index in range(EACH)]
    if way == 2:
        peer = _peer()

        def own_scan() -> object:
            with passes.own_scan(peer):
                return passes.target_gradients(peer, [ids] * count, WHOLE.read)

        return own_scan
    loaded = _loaded()
    requests, layers = [TraceRequest(ids)] * count, set(WHOLE.read)
    if way == 0:
        return lambda: trace(loaded, requests, layers, layers)
    return lambda: [trace(loaded, [request], layers, layers) for request in requests]


@cache
def _loaded() -> LoadedModel:
    return load(locate(WHOLE.name, WHOLE.settings), WHOLE.settings)


@cache
def _peer() -> MambaForCausalLM:
    return passes.load(WHOLE.directory)


def _point(curve: str, line: str, at: int, unit: str, values: list[float]) -> Row:
    measured = Spread.of(values)
    return Row(line, measured=measured, unit=unit, curve=curve, at=at, samples={line: values})
