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
    lengths = (1024, 8192) if quick else (SHORT, LONG)
    short, long = map(unforgetting, lengths)
    yield Contest(
        what=f"one query row of every channel, L={lengths[1]:,}, nothing forgotten",
        against=f"the same at L={lengths[0]:,}",
        promise=Promise("<=", 10),
        promised_at=f"L={LONG:,}" if quick else "",
    ).between(lambda: attention_row(*long, -1), lambda: attention_row(*short, -1), effort(quick))
    if not quick:
        # A small text says nothing of either, and each measurement is a process of its own.
        yield _memory_growth(SHORT, LONG)
        yield _longest()


def _memory_growth(short: int, long: int) -> Row:
    added = {
        n: [peak_added("benchmarks.query_row:prepared", n) for _ in range(3)] for n in (short, long)
    }
    per_number = {n: [a / (n * CHANNELS) for a in values] for n, values in added.items()}
    ratios = [a / b for a, b in zip(per_number[long], per_number[short], strict=True)]
    return Row(
        what=f"memory added by that row for each of its L d numbers, L={long:,}",
        against=f"the same at L={short:,}",
        measured=Spread.of(ratios),
        promise=Promise("<=", 1.25),
        ours=Spread.of(per_number[long]),
        other=Spread.of(per_number[short]),
        timed_in="B",
        samples={"ours": added[long], "other": added[short]},
    )


def _longest() -> Row:
    added = [peak_added("benchmarks.one_layer:prepared", LONGEST) / GB]
    return Row(
        what=f"memory added by the target's row of one layer by two methods, L={LONGEST:,}",
        measured=Spread.of(added),
        unit="GB",
        promise=Promise("<", 4.0),
        note="the layer's insides and its reconstruction check among it",
        samples={"ours": added},
    )


def prepared(length: int) -> Call:
    """The row of the last query, for every channel."""
    attention_row(*initialised(16), -1)
    system = unforgetting(length)
    return lambda: attention_row(*system, -1)
