"""The hidden-attention matrix of one layer against a matrix product, and other ways to it."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.memory import GB, peak_added
from benchmarks.peers import attention
from benchmarks.row import Promise, Row, Spread
from benchmarks.systems import CHANNELS, STATES, System, initialised, unforgetting, wide
from benchmarks.timing import Call, Contest, Effort, effort
from workers.kernels.hidden_attention import attention_matrix

_KINDS: dict[str, Callable[[int], System]] = {
    "decays as initialised": initialised,
    "decays of every size": wide,
    "nothing forgotten": unforgetting,
}
_PROMISES_AGAINST_PRODUCT = {1024: 2.0, 4096: 1.5}
_PROMISES_AGAINST_ROWS = {1024: 3.0, 4096: 5.0}


def rows(quick: bool) -> Iterator[Row]:
    for length, bound in _PROMISES_AGAINST_PRODUCT.items():
        for kind, system in _KINDS.items():
            if length == min(_PROMISES_AGAINST_PRODUCT) or system is unforgetting or not quick:
                yield _against_product(length, kind, system, bound, quick)
    yield _against_per_channel(quick)
    for length, bound in _PROMISES_AGAINST_ROWS.items():
        yield _against_rows(length, bound, quick)
    yield _against_loops(quick)
    yield memory_added(quick)


def one_product(length: int, channels: int = CHANNELS) -> Call:
    """One sgemm of l^2 d n flops: those of the lower triangle."""
    return product(length, channels * STATES)


def product(length: int, inner: int) -> Call:
    """One sgemm of l^2 `inner` flops: those of the lower triangle of (l, inner) by (inner, l)."""
    left = torch.randn(length, inner)
    right = torch.randn(inner, length // 2)
    out = torch.empty(length, length // 2)
    return lambda: torch.mm(left, right, out=out)


def _against_product(
    length: int, kind: str, system: Callable[[int], System], bound: float, quick: bool
) -> Row:
    reduced = quick and length > 1024
    tokens = 2048 if reduced else length
    made = system(tokens)
    return Contest(
        what=f"matrix, L={tokens}, {kind}",
        against="one sgemm of the same flops",
        promise=Promise("<=", bound),
        promised_at=f"L={length}" if reduced else "",
    ).between(lambda: attention_matrix(*made), one_product(tokens), _effort(tokens, quick))


def _effort(length: int, quick: bool) -> Effort:
    """Long contests in fewer rounds."""
    if quick:
        return effort(quick) if length <= 1024 else Effort(1, 1.0)
    return effort(quick) if length <= 1024 else Effort(5, 60.0)


def _against_per_channel(quick: bool) -> Row:
    system, share = initialised(512), 8
    return Contest(
        what="matrix, L=512",
        against="the vectorised per-channel way",
        promise=Promise(">=", 150),
        scale=CHANNELS / share,
        note=_timed_on(share),
    ).between(
        lambda: attention_matrix(*system),
        lambda: attention.per_channel(system, share),
        effort(quick),
    )


def _against_rows(length: int, bound: float, quick: bool) -> Row:
    reduced = quick and length > 1024
    tokens = 2048 if reduced else length
    system, share = initialised(tokens), 64 if quick else 256
    return Contest(
        what=f"matrix, L={tokens}",
        against="rows carried forward",
        promise=Promise(">=", bound),
        scale=CHANNELS / share,
        note=_timed_on(share),
        promised_at=f"L={length}" if reduced else "",
    ).between(
        lambda: attention_matrix(*system),
        lambda: attention.rows_carried_forward(system, share),
        Effort(1 if quick else 3, 60.0),
    )


def _against_loops(quick: bool) -> Row:
    length, queries = 128, [63] if quick else [31, 63, 95, 127]
    system = initialised(length)
    steps = sum(_steps(t) for t in range(length)) / sum(map(_steps, queries))
    return Contest(
        what=f"matrix, L={length}",
        against="the published loops over t, s and k",
        promise=Promise(">=", 150),
        scale=steps,
        note=f"the other on queries {queries}, scaled by the number of steps",
    ).between(
        lambda: attention_matrix(*system),
        lambda: attention.triple_loop(system, CHANNELS, queries),
        effort(quick),
    )


def _steps(query: int) -> float:
    """Decays that the loops multiply for one query."""
    return query * (query + 1) / 2


def memory_added(quick: bool) -> Row:
    length = 2048
    added = [
        peak_added("benchmarks.matrix:prepared", length) / GB for _ in range(1 if quick else 3)
    ]
    materialised = CHANNELS * length * length * 4 / GB
    return Row(
        what=f"memory added by one matrix, L={length}",
        measured=Spread.of(added),
        unit="GB",
        promise=Promise("<", 1.0),
        note=f"materialised over channels (computed, not run): {materialised:.0f} GB",
        samples={"ours": added},
    )


def prepared(length: int) -> Call:
    """The matrix of a system that is there, its kernels compiled."""
    attention_matrix(*initialised(16))
    system = unforgetting(length)
    return lambda: attention_matrix(*system)


def _timed_on(share: int) -> str:
    return f"the other on {share} of {CHANNELS} channels, scaled"
