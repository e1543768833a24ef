"""The hidden-attention kernels against a matrix product and against other ways to the same matrix.

`python -m benchmarks.hidden_attention [--json PATH] [--long]`: one layer of the 130m shape
(d_inner 1536, d_state 16), two threads. Every round runs each contender once, in turn, and the
ratio is the median over rounds, so that a busy machine slows all of them alike. Contenders too slow
to run whole are timed on a share of the channels and scaled; the table says so. `--long` adds
4,096 tokens to the comparison with the row-by-row script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.kernels.hidden_attention import attention_matrix, attention_row

CHANNELS, STATES, THREADS = 1536, 16, 2
System = tuple[Tensor, Tensor, Tensor, Tensor]


def initialised(length: int, channels: int = CHANNELS) -> System:
    """A as Mamba initialises it, delta log-uniform in 0.001..0.1."""
    draw = torch.Generator().manual_seed(0)
    A = -torch.arange(1.0, STATES + 1).repeat(channels, 1)
    delta = 10 ** (torch.rand(length, channels, generator=draw) * 2 - 3)
    return delta, A, *torch.randn(2, length, STATES, generator=draw)


def wide(length: int, channels: int = CHANNELS) -> System:
    """A and delta spread over four orders of magnitude, per channel and per token."""
    draw = torch.Generator().manual_seed(1)
    A = -(10 ** (torch.rand(channels, STATES, generator=draw) * 4 - 2))
    per_channel = 10 ** (torch.rand(channels, generator=draw) * 3 - 4)
    delta = per_channel * torch.rand(length, channels, generator=draw) * 2
    return delta, A, *torch.randn(2, length, STATES, generator=draw)


def unforgetting(length: int) -> System:
    """Decays so slow that no pair of tokens can be left out: the worst case."""
    delta, A, B, C = initialised(length)
    return delta, A * 1e-3, B, C


def per_channel_way(system: System, channels: int) -> Tensor:
    """Channel by channel: exp(A (S_t - S_s)) as (t, s, n), contracted."""
    delta, A, B, C = system
    total = delta.cumsum(0)
    out = torch.zeros(len(delta), len(delta))
    for d in range(channels):
        gap = (total[:, None, d] - total[None, :, d]).clamp_min_(0)
        decay = (gap[:, :, None] * A[d]).exp_().mul_(B)
        out += torch.bmm(decay, C[:, :, None])[:, :, 0] * delta[None, :, d]
    return out.tril() / delta.shape[1]


def row_by_row(system: System, channels: int, chunk: int = 256) -> Tensor:
    """Keep X[s, (d, n)], decay it for each new query, contract it with C_t."""
    delta, A, B, C = system
    length = len(delta)
    out = torch.zeros(length, length)
    for d0 in range(0, channels, chunk):
        step, rates = delta[:, d0 : d0 + chunk], A[d0 : d0 + chunk]
        X = torch.empty(length, step.shape[1] * STATES)
        decays = torch.exp(step[:, :, None] * rates).flatten(1)
        for t in range(length):
            X[:t] *= decays[t]
            X[t] = (step[t][:, None] * B[t]).flatten()
            out[t, : t + 1] += X[: t + 1] @ C[t].repeat(step.shape[1])
    return out / delta.shape[1]


def triple_loop(system: System, channels: int, queries: list[int]) -> Tensor:
    """For every t, s and k between: the product of the decays, as the formula is written."""
    delta, A, B, C = system
    length = len(delta)
    delta, A = delta[:, :channels], A[:channels]
    discrete = torch.exp(delta[:, :, None] * A)
    out = torch.zeros(length, length)
    for t in queries:
        for s in range(t + 1):
            decay = torch.ones_like(A)
            for k in range(s + 1, t + 1):
                decay = decay * discrete[k]
            out[t, s] = torch.einsum("n,dn,d,n->", C[t], decay, delta[s], B[s])
    return out


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    promise: str,
    rounds: int,
    scale: float = 1.0,
    note: str = "",
) -> dict[str, Any]:
    """One row: medians, and the ratio theirs / ours (ours / theirs where the promise is <=)."""
    ours()
    pairs = [(seconds(ours), seconds(theirs) * scale) for _ in range(rounds)]
    limit = promise.startswith("<=")
    ratio = statistics.median(a / b if limit else b / a for a, b in pairs)
    bound = float(promise.strip("<>= x"))
    return {
        "what": name,
        "ours_ms": statistics.median(a for a, _ in pairs) * 1e3,
        "other_ms": statistics.median(b for _, b in pairs) * 1e3,
        "ratio": ratio,
        "promise": promise,
        "kept": ratio <= bound if limit else ratio >= bound,
        "note": note,
    }


def against_product(length: int, kind: Callable[[int], System], promise: str) -> dict[str, Any]:
    system = kind(length)
    left = torch.randn(length, CHANNELS * STATES)
    right = torch.randn(CHANNELS * STATES, length // 2)
    out = torch.empty(length, length // 2)
    return compare(
        f"L={length} against one sgemm of the same flops ({kind.__name__})",
        lambda: attention_matrix(*system),
        lambda: torch.mm(left, right, out=out),
        promise,
        rounds=9 if length <= 1024 else 3,
    )


def against_other_ways(long: bool) -> list[dict[str, Any]]:
    rows = []
    few = 12
    system = initialised(512)
    rows.append(
        compare(
            "L=512 against the vectorised per-channel way",
            lambda: attention_matrix(*system),
            lambda: per_channel_way(system, few),
            ">= 150x",
            rounds=7,
            scale=CHANNELS / few,
            note=f"other timed on {few} of {CHANNELS} channels",
        )
    )
    for length, share, promise in [(1024, 256, ">= 3x")] + [(4096, 256, ">= 5x")] * long:
        longer = initialised(length)
        rows.append(
            compare(
                f"L={length} against rows carried forward",
                lambda longer=longer: attention_matrix(*longer),
                lambda longer=longer, share=share: row_by_row(longer, share),
                promise,
                rounds=2 if length == 1024 else 1,
                scale=CHANNELS / share,
                note=f"other timed on {share} of {CHANNELS} channels",
            )
        )
    short = initialised(128)
    queries = [31, 63, 95, 127]
    steps = sum(t * (t + 1) / 2 for t in range(128)) / sum(t * (t + 1) / 2 for t in queries)
    rows.append(
        compare(
            "L=128 against the triple loop over t, s, k",
            lambda: attention_matrix(*short),
            lambda: triple_loop(short, CHANNELS, queries),
            ">= 150x",
            rounds=9,
            scale=steps,
            note=f"other timed on queries {queries}, scaled by the number of steps",
        )
    )
    return rows


def row_growth() -> dict[str, Any]:
    # Where nothing is forgotten, every key has to be visited.
    short, long = unforgetting(4096), unforgetting(32768)
    return compare(
        "one row, L=32768 against L=4096",
        lambda: attention_row(*long, -1),
        lambda: attention_row(*short, -1),
        "<= 10x",
        rounds=5,
    )


def memory() -> dict[str, Any]:
    """Peak resident memory that one matrix at 2,048 tokens adds, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.hidden_attention", "--measure-memory"]
    added = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "what": "peak memory added, L=2048 (GB)",
        "ours_ms": None,
        "other_ms": None,
        "ratio": added,
        "promise": "< 1 GB",
        "kept": added < 1,
        "note": "materialised over channels: 26 GB",
    }


def measure_memory() -> None:
    attention_matrix(*initialised(16))
    system = initialised(2048)
    # Forget the peak of the imports (Linux): VmHWM starts again from what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_peak()
    attention_matrix(*system)
    sys.stdout.write(f"{resident_peak() - before:.3f}\n")


def resident_peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def check() -> None:
    """All contenders compute the same matrix."""
    system = initialised(40, 6)
    wanted = per_channel_way(system, 6)
    loops = triple_loop(system, 6, list(range(40))) / 6
    for other in (attention_matrix(*system), row_by_row(system, 6), loops):
        torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-6)


def measure(long: bool) -> list[dict[str, Any]]:
    check()
    rows = [against_product(1024, kind, "<= 2x") for kind in (initialised, wide, unforgetting)]
    rows += [against_product(4096, kind, "<= 1.5x") for kind in (initialised, wide, unforgetting)]
    return [*rows, *against_other_ways(long), row_growth(), memory()]


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        times = "" if row["ours_ms"] is None else f"{row['ours_ms']:9.1f} {row['other_ms']:11.1f}"
        verdict = "kept" if row["kept"] else "MISSED"
        lines.append(f"{row['what']:62}{times:22}{row['ratio']:9.2f}  {row['promise']:8} {verdict}")
        if row["note"]:
            lines.append(f"    ({row['note']})")
    header = f"{'what':62}{'ours ms':>9} {'other ms':>11} {'ratio':>9}  promise"
    return "\n".join([header, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--measure-memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.measure_memory:
        measure_memory()
        return
    rows = measure(arguments.long)
    print(table(rows))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"threads": THREADS, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
