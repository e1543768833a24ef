"""One query's row at growing length: time linear, memory flat beside the O(L d) of the layer."""

from collections.abc import Iterator

import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from benchmarks.memory import GB, peak_added
from benchmarks.row import Promise, Row, Spread
from benchmarks.systems import CHANNELS, initialised, unforgetting
from benchmarks.timing import Call, Contest, effort
from schemas.names import Method
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.kernels import mamba
from workers.kernels.hidden_attention import attention_row
from workers.mixers.mamba import MambaAdapter
from workers.mixers.protocol import Capture, MixerTrace

SHORT, LONG, LONGEST = 4096, 32768, 131072
HIDDEN = 768
METHODS = [Method.ATTENTION_WEIGHTED, Method.CONTRIBUTION]


def rows(quick: bool) -> Iterator[Row]:
    # Where nothing is forgotten, every key has to be visited.
    lengths = (1024, 8192) if quick else (SHORT, LONG)
    short, long = map(unforgetting, lengths)
    yield Contest(
        what=f"one query row of every channel, L={lengths[1]:,}, nothing forgotten",
        against=f"the same at L={lengths[0]:,}",
        promise=Promise("<=", 10),
        promised_at=_promised(lengths[1], LONG),
    ).between(lambda: attention_row(*long, -1), lambda: attention_row(*short, -1), effort(quick))
    yield _memory_growth(lengths, 1 if quick else 3)
    yield _longest(quick)


def _memory_growth(lengths: tuple[int, int], times: int) -> Row:
    short, long = lengths
    added = {
        n: [peak_added("benchmarks.query_row:prepared", n) for _ in range(times)] for n in lengths
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
        promised_at=_promised(long, LONG),
        samples={"ours": added[long], "other": added[short]},
    )


def _longest(quick: bool) -> Row:
    length = 8192 if quick else LONGEST
    added = [peak_added("benchmarks.query_row:prepared_layer", length) / GB]
    return Row(
        what=f"memory added by the target's row of one layer by two methods, L={length:,}",
        measured=Spread.of(added),
        unit="GB",
        promise=Promise("<", 4.0),
        note="the layer's insides and its reconstruction check among it",
        promised_at=_promised(length, LONGEST),
        samples={"ours": added},
    )


def _promised(length: int, at: int) -> str:
    return f"L={at:,}" if length < at else ""


def prepared(length: int) -> Call:
    """The row of the last query, for every channel."""
    attention_row(*initialised(16), -1)
    system = unforgetting(length)
    return lambda: attention_row(*system, -1)


def prepared_layer(length: int) -> Call:
    """What a job does with one reported layer of a text: the check, and the row by two methods.

    The layer is an S6 mixer of the 130M shape on random hidden states; it has run on them before.
    """
    torch.manual_seed(0)
    mixer = MambaMixer(MambaConfig(hidden_size=HIDDEN), layer_idx=0).eval()
    hidden = torch.randn(length, HIDDEN)
    gradient = torch.zeros(length, HIDDEN)
    gradient[-1] = torch.randn(HIDDEN)
    with torch.no_grad(), mamba.installed():
        output = mixer(hidden[None])[0].clone()
    plan = ReadingPlan(frozenset({0}), METHODS, length - 1, 1e-4, dict.fromkeys(METHODS, "target"))
    trace: MixerTrace = MambaAdapter().trace(mixer, Capture(0, hidden, output, gradient))
    return lambda: list(read_layers({0: trace}, plan))
