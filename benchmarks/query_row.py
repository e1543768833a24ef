"""One query's row at growing length: time linear, memory flat beside the O(L d) of the layer."""

from collections.abc import Iterator

from benchmarks.memory import GB, peak_added
from benchmarks.row import Promise, Row, Spread
from benchmarks.systems import CHANNELS, initialised, unforgetting
from benchmarks.timing import Call, Contest, effort
from workers.kernels.hidden_attention import attention_row

SHORT, LONG, LONGEST = 4096, 32768, 131072


def rows(quick: bool) -> Iterator[Row]:
    # Where nothing is forgotten, every key has to be visited.
    short, long = unforgetting(SHORT), unforgetting(LONG)
    yield Contest(
        what=f"one query row of every channel, L={LONG:,}, nothing forgotten",
        against=f"the same at L={SHORT:,}",
        promise=Promise("<=", 10),
    ).between(lambda: attention_row(*long, -1), lambda: attention_row(*short, -1), effort(quick))
    yield _memory_growth(quick)
    yield _longest(quick)


def _memory_growth(quick: bool) -> Row:
    times = 1 if quick else 3
    lengths = (LONG, SHORT)
    added = {
        n: [peak_added("benchmarks.query_row:prepared", n) for _ in range(times)] for n in lengths
    }
    per_number = {n: [a / (n * CHANNELS) for a in values] for n, values in added.items()}
    ratios = [a / b for a, b in zip(per_number[LONG], per_number[SHORT], strict=True)]
    return Row(
        what=f"memory added by that row for each of its L d numbers, L={LONG:,}",
        against=f"the same at L={SHORT:,}",
        measured=Spread.of(ratios),
        promise=Promise("<=", 1.25),
        ours=Spread.of(per_number[LONG]),
        other=Spread.of(per_number[SHORT]),
        timed_in="B",
        samples={"ours": added[LONG], "other": added[SHORT]},
    )


def _longest(quick: bool) -> Row:
    length = 8192 if quick else LONGEST
    added = [peak_added("benchmarks.long_text:prepare", length) / GB]
    return Row(
        what=f"memory added by the target's row of one layer by two methods, L={length:,}",
        measured=Spread.of(added),
        unit="GB",
        promise=Promise("<", 4.0),
        note="the layer's insides and its reconstruction check among it"
        + (f"; promised at L={LONGEST:,}" if length < LONGEST else ""),
        reduced=length < LONGEST,
        samples={"ours": added},
    )


def prepared(length: int) -> Call:
    """The row of the last query, for every channel."""
    attention_row(*initialised(16), -1)
    system = unforgetting(length)
    return lambda: attention_row(*system, -1)
