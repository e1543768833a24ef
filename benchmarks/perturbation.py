"""A set of neurons and twenty random ones in few passes, against a pass for each with a hook."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.agreement import require_close
from benchmarks.peers.perturbation import said_apart
from benchmarks.row import Row
from benchmarks.shape import shape, text
from benchmarks.timing import Contest, Effort, effort
from catalogue.locate import locate
from schemas.names import Block, Intervening
from schemas.sections import Intervention
from schemas.settings import Settings
from workers.experiments.changes import Condition
from workers.experiments.listening import Listener, Texts
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel, load
from workers.numbers import Floats
from workers.traces import TraceRequest

SETS = 21
NEURONS = 10
LENGTHS = (32, 256)
POCKET = ("pocket/recall-mamba", "pocket/recall-gpt2")
QUESTION = "apple 3 river 7 stone 1 river"
_ROOM = 1 << 30


def rows(quick: bool) -> Iterator[Row]:
    here = Settings(device="cpu")
    for name in POCKET:
        loaded = load(locate(name, here), here)
        ids = loaded.tokeniser.ids(QUESTION)
        yield _row(loaded, f"{name}, L={len(ids)}", ids, effort(quick))
    measured = shape(quick)
    loaded = load(locate(measured.name, measured.settings), measured.settings)
    for length in LENGTHS:
        ids = loaded.tokeniser.ids(text(length))
        few = Effort(1, 1.0, warm=True) if quick else Effort(5, 60.0)
        yield _row(loaded, f"{measured.told}, L={length}", ids, few)


def said_together(
    loaded: LoadedModel, ids: Sequence[int], site: Site, sets: Sequence[Sequence[int]]
) -> Floats:
    """(4, c): logit, probability, divergence and loss under each set, as a job measures them."""
    conditions = [Condition({site.place: np.array(neurons)}, (0,), "a set") for neurons in sets]
    listener = Listener(loaded, {site.place: site}, {}, _ROOM, lambda tokens: None)
    zero = [Intervention(kind=Intervening.ZERO)]
    _, [after] = listener.listen(Texts([TraceRequest(ids)]), zero, conditions)
    return np.stack([after.logit, after.probability, after.divergence, after.loss])[..., 0]


def random_sets(site: Site) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.choice(site.neurons, NEURONS, replace=False).tolist() for _ in range(SETS)]


def _row(loaded: LoadedModel, told: str, ids: Sequence[int], effort: Effort) -> Row:
    """Neurons of the layer in the middle."""
    layers = len(loaded.description.layers)
    [site] = sites_of(loaded.model, [layers // 2], [Block.MIXER])
    sets = random_sets(site)
    ours = said_together(loaded, ids, site, sets)
    require_close(
        "what is said without neurons", ours, said_apart(loaded.model, ids, site.projection, sets)
    )
    return Contest(
        f"{SETS} sets of {NEURONS} neurons set to 0, {told}", "a pass each, with a hook"
    ).between(
        lambda: said_together(loaded, ids, site, sets),
        lambda: said_apart(loaded.model, ids, site.projection, sets),
        effort,
    )
