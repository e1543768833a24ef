"""One line of the comparison: what is promised, what was measured, and whether that is enough."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self


class Verdict(StrEnum):
    """What became of a promise. Only `MET` is."""

    MET = "met"
    MISSED = "missed"
    REDUCED = "reduced"
    UNMEASURED = "not measured"
    NONE = ""


@dataclass(frozen=True)
class Promise:
    """A bound on the measured value, in the row's unit."""

    relation: Literal["<=", "<", ">="]
    bound: float

    def kept(self, value: float) -> bool:
        if self.relation == ">=":
            return value >= self.bound
        return value < self.bound if self.relation == "<" else value <= self.bound


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, their smallest and their largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """A measurement and its promise.

    measured is in `unit` ("x" is a ratio); None says that it could not be made, and `note` why.
    ours and other are what a ratio is of, in `timed_in`. promised_at: the size that the promise
    speaks of, where a smaller one was measured, which says nothing about it. samples: every single
    measurement, by contender. curve: the plot that this is a point of, at `at`, on the line named
    `what`; such rows are drawn and not listed.
    """

    what: str
    against: str = ""
    measured: Spread | None = None
    unit: str = "x"
    promise: Promise | None = None
    ours: Spread | None = None
    other: Spread | None = None
    timed_in: str = "s"
    note: str = ""
    promised_at: str = ""
    curve: str = ""
    at: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        if self.measured is None:
            return Verdict.UNMEASURED
        if self.promise is None:
            return Verdict.NONE
        if self.promised_at:
            return Verdict.REDUCED
        return Verdict.MET if self.promise.kept(self.measured.median) else Verdict.MISSED

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """The row that `to_json` wrote; its verdict is found anew."""
        values = {name: value for name, value in stored.items() if name != "verdict"}
        for name, kind in {
            "measured": Spread,
            "ours": Spread,
            "other": Spread,
            "promise": Promise,
        }.items():
            if values[name] is not None:
                values[name] = kind(**values[name])
        return cls(**values)
