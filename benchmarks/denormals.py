"""What denormals cost where they are not flushed: two processes that differ in nothing else.

The mode belongs to a thread and is inherited by those it starts, so it is set before torch has any.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.peers.attention import rows_carried_forward
from benchmarks.row import Row
from benchmarks.systems import CHANNELS, initialised
from benchmarks.timing import THREADS, Contest, Timed, effort, take_turns

LENGTH = 1024
WORK = {
    "product": "one product of a rollout, L=1024, of matrices whose far entries have decayed",
    "rows": "rows carried forward (a peer of `matrix`), L=1024, 16 channels, fast decays",
}


def rows(quick: bool) -> Iterator[Row]:
    for name, what in WORK.items():
        with served(name, "flushed") as ours, served(name, "kept") as other:
            found = take_turns({"ours": ours, "other": other}, effort(quick))
        contest = Contest(f"denormals flushed: {what}", "denormals kept")
        yield contest.judged(found["ours"], found["other"])


@contextmanager
def served(name: str, mode: str) -> Iterator[Timed]:
    """A process that does the work whenever asked; the call returns the seconds it took."""
    command = [sys.executable, "-m", "benchmarks.denormals", name, mode]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    asks, answers = child.stdin, child.stdout
    assert asks is not None
    assert answers is not None

    def ask() -> float:
        asks.write("\n")
        asks.flush()
        return float(answers.readline())

    try:
        yield ask
    finally:
        asks.close()
        child.wait()


def work(name: str) -> Callable[[], object]:
    delta, A, B, C = initialised(LENGTH, CHANNELS if name == "product" else 16)
    if name == "rows":
        # Decays of a token that resets its channel: a few tokens on, nothing is left.
        fast = (delta * 30, A, B, C)
        return lambda: rows_carried_forward(fast, 16)
    gap = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    decayed = torch.exp(-0.15 * gap.clamp_min(0)).tril_()
    return lambda: decayed @ decayed


def main(name: str, mode: str) -> None:
    torch.set_flush_denormal(mode == "flushed")
    torch.set_num_threads(THREADS)
    call = work(name)
    for _ in sys.stdin:
        started = time.perf_counter()
        call()
        sys.stdout.write(f"{time.perf_counter() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
