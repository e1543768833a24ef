"""SSD, one Mamba-2 layer of the 130M shape: its hidden attention, and the scan of the model itself.

Matrices against one product of their flops and against alpha materialised for all heads; rows and
moments against half the length; forward and gradient of the layer against transformers' own torch
code.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from benchmarks.agreement import require_close
from benchmarks.matrix import product
from benchmarks.peers import ssd as simple
from benchmarks.row import Row
from benchmarks.systems import CHANNELS, HEAD_STATES, HEADS, of_heads
from benchmarks.timing import Call, Contest, Effort, effort
from schemas import pieces
from workers.kernels import mamba, ssd

HIDDEN, LAYER = 768, 1024
LENGTHS = (512, 1024, 2048)
# Rows are read in chunks and moments in pieces, between which lies what is linear.
ROWS, MOMENTS = 8192, 2 * pieces.READ_SSD
MEAN = f"mean attention, l^2 (n + h) flops: n = {HEAD_STATES}, h = {HEADS}"
GUIDED = f"gradient-guided, l^2 (n + d) flops: n = {HEAD_STATES}, d = {CHANNELS}"
ONES: ssd.Weights = (None, None)


def rows(quick: bool) -> Iterator[Row]:
    for length in LENGTHS[:1] if quick else LENGTHS:
        yield from _matrices(length, quick)
    yield from _rows(ROWS // 4 if quick else ROWS, quick)
    if not quick:
        yield from _moments(MOMENTS)
    yield from _layer(LAYER // 4 if quick else LAYER, quick)


def _matrices(length: int, quick: bool) -> Iterator[Row]:
    system = of_heads(length)
    p, q = weights(length)
    for told, inner, pair, other in (
        (MEAN, HEADS, ONES, lambda: simple.mean(system)),
        (GUIDED, CHANNELS, (p, q), lambda: simple.guided(system, p, q)),
    ):
        ours = _matrix(system, pair)
        require_close(f"{told}, L={length}", ours(), other())
        what = f"SSD matrix, L={length}, {told.partition(',')[0]}"
        against = "one sgemm of the same flops"
        contest = Contest(what, against, note=told, less_is_better=True)
        yield contest.between(ours, product(length, HEAD_STATES + inner), effort(quick))
        yield Contest(what, "alpha of all heads, materialised").between(ours, other, effort(quick))


def _matrix(system: ssd.System, pair: ssd.Weights) -> Callable[[], Tensor]:
    return lambda: ssd.attention_matrices(system, [pair])[0]


def _rows(length: int, quick: bool) -> Iterator[Row]:
    """One query's row, without K."""
    for kind, pair in (("mean attention", ONES), ("gradient-guided", weights(2 * length))):
        long, short = (_row(of_heads(n), pair) for n in (2 * length, length))
        yield Contest(
            what=f"SSD row of one query, L={2 * length:,}, {kind}",
            against=f"the same at L={length:,}",
            less_is_better=True,
        ).between(long, short, effort(quick))


def _row(system: ssd.System, pair: ssd.Weights) -> Call:
    p, q = (None if v is None else v[: system.length] for v in pair)
    last = torch.zeros(1, system.length)
    last[0, -1] = 1
    return lambda: ssd.weighted_rows(system, last, p, q)


def _moments(length: int) -> Iterator[Row]:
    """What standard deviations are made of, a piece after the other as a job reads them.

    The gradient-guided ones take a minute and are measured once.
    """
    for kind, pair in (("mean attention", ONES), ("gradient-guided", weights(2 * length))):
        long, short = (_spread(of_heads(n), pair) for n in (2 * length, length))
        yield Contest(
            what=f"SSD moments, L={2 * length:,}, {kind}",
            against=f"the same at L={length:,}",
            note=f"in {2 * length // pieces.READ_SSD} pieces against {length // pieces.READ_SSD}",
            less_is_better=True,
        ).between(long, short, Effort(3, 20.0) if pair is ONES else Effort(1, 1.0, warm=True))


def _spread(system: ssd.System, pair: ssd.Weights) -> Call:
    length = system.length

    def call() -> None:
        moments = ssd.Moments.start(system, HEADS if pair[0] is None else CHANNELS)
        for start, stop in pieces.borders(length, pieces.READ_SSD):
            at = slice(start, stop)
            p, q = (None if v is None else v[at] for v in pair)
            moments.read(system.at(at), p, q, first=start == 0, last=stop == length)

    return call


def _layer(length: int, quick: bool) -> Iterator[Row]:
    """The mixer as a model runs it; only its convolution and scan differ."""
    torch.manual_seed(0)
    sizes = {"num_heads": HEADS, "head_dim": CHANNELS // HEADS, "n_groups": 1}
    config = Mamba2Config(hidden_size=HIDDEN, state_size=HEAD_STATES, **sizes)
    mixer = Mamba2Mixer(config, layer_idx=0).eval().requires_grad_(False)
    hidden, pull = torch.randn(2, 1, length, HIDDEN)
    for told, call in (
        ("forward", lambda: mixer(hidden)),
        ("forward and gradient", lambda: gradient(mixer, hidden, pull)),
    ):
        ours = _installed(call)
        require_close(f"Mamba-2 layer, {told}", ours(), call())
        yield Contest(
            what=f"Mamba-2 layer, L={length}, {told}", against="transformers' own torch code"
        ).between(ours, call, effort(quick))


def gradient(mixer: Mamba2Mixer, hidden: Tensor, pull: Tensor) -> Tensor:
    """d <pull, output> / d hidden, (b, l, m)."""
    hidden = hidden.clone().requires_grad_()
    [found] = torch.autograd.grad(mixer(hidden), hidden, pull)
    return found


def _installed(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same call with the model's scan and convolution in place."""

    def ours() -> Tensor:
        with mamba.installed():
            return call()

    return ours


def weights(length: int) -> tuple[Tensor, Tensor]:
    """p and q (l, d)."""
    p, q = torch.randn(2, length, CHANNELS, generator=torch.Generator().manual_seed(2))
    return p, q
