"""Contenders that take turns, so that whatever else the machine does slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.row import Promise, Row, Spread

THREADS = 2

Call = Callable[[], object]
Timed = Callable[[], float]
"""A call that returns how long it took, in seconds."""


@dataclass(frozen=True)
class Effort:
    """At most so many rounds; none begins after so many seconds, but one is always made.

    warm: every contender has just run, so that the call which is not counted can be left out.
    """

    rounds: int
    seconds: float
    warm: bool = False


FULL = Effort(rounds=9, seconds=90.0)
QUICK = Effort(rounds=3, seconds=3.0)


def effort(quick: bool) -> Effort:
    return QUICK if quick else FULL


def timed(call: Callable[[], object]) -> Timed:
    """A call that returns the seconds it took."""

    def measure() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return measure


def take_turns(contenders: Mapping[str, Timed], effort: Effort) -> dict[str, list[float]]:
    """What every contender returns in every round, after one call of each that is not counted.

    The order turns round from one round to the next: none always runs on what another left behind.
    """
    for call in () if effort.warm else contenders.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    begun = time.perf_counter()
    for turn in range(effort.rounds):
        if turn and time.perf_counter() - begun > effort.seconds:
            break
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            found[name].append(contenders[name]())
    return found


@dataclass(frozen=True)
class Contest:
    """Ours against another way to the same numbers.

    A promise of "at most" is about ours / other, one of "at least" about other / ours, as is what
    promises nothing, unless `less_is_better`.
    scale: what the other's time is multiplied by where only a share of it is run.
    """

    what: str
    against: str
    promise: Promise | None = None
    scale: float = 1.0
    note: str = ""
    promised_at: str = ""
    less_is_better: bool = False

    def between(self, ours: Call, other: Call, effort: Effort) -> Row:
        """Measure both, in turns."""
        found = take_turns({"ours": timed(ours), "other": timed(other)}, effort)
        return self.judged(found["ours"], found["other"])

    def judged(self, ours: list[float], other: list[float]) -> Row:
        """The row of rounds that took these seconds: the median over the rounds' own ratios."""
        other = [self.scale * seconds for seconds in other]
        less_is_better = self.less_is_better
        if self.promise is not None:
            less_is_better = self.promise.relation != ">="
        pairs = zip(ours, other, strict=True)
        return Row(
            what=self.what,
            against=self.against,
            measured=Spread.of([a / b if less_is_better else b / a for a, b in pairs]),
            promise=self.promise,
            ours=Spread.of(ours),
            other=Spread.of(other),
            note=self.note,
            promised_at=self.promised_at,
            samples={"ours": ours, "other": other},
        )
