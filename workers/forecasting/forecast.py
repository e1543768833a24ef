"""What is left of a job, from what was foretold of its phases and what those that ran have taken.

Foretold seconds are those of the machine that `efforts` was measured on; the factor of a phase
turns them into seconds here. It starts from the measured cost of its kind, and moves to what the
phase itself is seen to take. Phases that have not begun share what others have shown of this job: a
machine that is busier than usual.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from jobs.costs import Cost
from schemas.names import Stage
from workers.forecasting.gallery import Gallery

# How much of a phase must have run to count as much as what was known of its kind before: a guess
# is given up sooner than a measurement.
_TRUST_MEASURED, _TRUST_GUESS = 0.2, 0.05
# A drift of the whole job is believed as its phases have run for some seconds; what a guess missed
# by says less about other guesses.
_DRIFT_SECONDS, _GUESS_SHARE = 2.0, 0.5
# Seconds of drawing while the job computes, for one while it does not: a guess, of processes that
# give way where both want a core.
_SHARED = 3.0
# What is left at least, as a share, of a phase that ought to be over and is not.
_LEAST_LEFT = 0.02


class Phase(StrEnum):
    """The phases of a job that are foretold by themselves: those before MATCHING a model.

    BESIDE is drawing while the job computes: processes of its own do it, so that it takes none of
    the job's time, and leaves less to DRAWING.
    """

    LOADING = "loading"
    TRACING = "tracing"
    READING = "reading"
    NEURONS = "neurons"
    FACTS = "facts"
    INTERVENTIONS = "interventions"
    MATCHING = "matching"
    BESIDE = "beside"
    DRAWING = "drawing"
    STORING = "storing"

    @property
    def stage(self) -> Stage:
        """What a job that is at this phase is doing."""
        return _STAGES[self]


_STAGES = {
    Phase.LOADING: Stage.LOADING,
    Phase.TRACING: Stage.TRACING,
    Phase.READING: Stage.ANALYSING,
    Phase.NEURONS: Stage.ANALYSING,
    Phase.FACTS: Stage.INTERVENING,
    Phase.INTERVENTIONS: Stage.INTERVENING,
    Phase.MATCHING: Stage.ANALYSING,
    Phase.BESIDE: Stage.DRAWING,
    Phase.DRAWING: Stage.DRAWING,
    Phase.STORING: Stage.STORING,
}
# Phases that follow once everything is computed.
FINISHING = frozenset({Phase.DRAWING, Phase.STORING})
_COMPUTING = frozenset(Phase) - FINISHING - {Phase.BESIDE}
# What is computed of a model once its texts are read, and takes its time.
_AFTER_TEXTS = (Phase.FACTS, Phase.INTERVENTIONS)
# Phases whose seconds say nothing about how fast the rest will compute.
_APART = frozenset(Phase) - _COMPUTING | {Phase.LOADING}
_DRAWING, _BESIDE = ("", Phase.DRAWING), ("", Phase.BESIDE)

ModelPhase = tuple[str, Phase]
"""A phase of one model, or of none: ""."""


@dataclass
class Effort:
    """One phase: seconds foretold and done of them, and what those that are done have really taken.

    seen: what the phase has taken when `done` last grew; spent: all that it has taken.
    """

    foretold: float
    cost: Cost = field(default_factory=Cost)
    done: float = 0.0
    spent: float = 0.0
    seen: float = 0.0
    over: bool = False

    @property
    def begun(self) -> bool:
        """Whether anything of it was measured."""
        return self.done > 0 and self.seen > 0

    @property
    def left(self) -> float:
        """Foretold seconds that are not done."""
        if self.over:
            return 0.0
        return max(self.foretold - self.done, _LEAST_LEFT * self.foretold)

    @property
    def factor(self) -> float:
        """Seconds here for a second foretold, by all that is known."""
        trust = _TRUST_MEASURED if self.cost.weight else _TRUST_GUESS
        known = max(trust * self.foretold, 1e-6)
        return (self.cost.factor * known + self.seen) / (known + self.done)

    @property
    def missed(self) -> float:
        """The logarithm of the factor seen over the one known before."""
        return math.log(max(self.seen, 1e-6) / max(self.done * self.cost.factor, 1e-6))

    def seconds_left(self, drift: float) -> float:
        """Seconds until it is over; `drift`, of the job, holds where nothing is seen of its own."""
        if not (self.begun or self.spent):
            return self.left * self.cost.factor * drift
        whole = self.left * (self.factor if self.begun else self.cost.factor * drift)
        # What is under way counts as done by the time it has taken, but never as all that is left.
        return max(whole - (self.spent - self.seen), _LEAST_LEFT * whole)


class Forecast:
    """All phases of one job."""

    def __init__(self) -> None:
        self.gallery = Gallery()
        self._efforts: dict[ModelPhase, Effort] = {}

    def expect(
        self,
        foretold: Mapping[ModelPhase, float],
        costs: Mapping[ModelPhase, Cost],
        drawn: Gallery | None = None,
    ) -> None:
        """Add phases and figures, or say more exactly what those not over yet will take."""
        if drawn is not None:
            self.gallery = drawn
        for at, seconds in foretold.items():
            effort = self._efforts.setdefault(at, Effort(seconds))
            if effort.over:
                continue
            effort.foretold = max(seconds, effort.done)
            effort.cost = costs.get(at, _guess(at))

    def __getitem__(self, at: ModelPhase) -> Effort:
        """A phase; one that nobody foretold takes no time that is known."""
        return self._efforts.setdefault(at, Effort(0.0, _guess(at)))

    def do(self, at: ModelPhase, seconds: float) -> None:
        """So many of the foretold seconds of a phase are done."""
        effort = self[at]
        if seconds > 0:
            effort.done += seconds
            effort.seen = effort.spent

    def reach(self, at: ModelPhase, share: float) -> None:
        """This share of a phase is done, 0 to 1; less than before is not heard."""
        effort = self[at]
        self.do(at, max(min(share, 1.0) * effort.foretold - effort.done, 0.0))

    def drawn(self, foretold: float, spent: float) -> None:
        """Figures were drawn while the job computed, in so many seconds of what draws."""
        self[_BESIDE].spent += spent
        self.do(_BESIDE, foretold)

    def collect(self, seconds: float) -> None:
        """All is computed, and of the figures so many foretold seconds are not drawn yet."""
        drawing, beside = self[_DRAWING], self[_BESIDE]
        drawing.cost = replace(drawing.cost, factor=self._drawing_factor())
        drawing.foretold = seconds
        beside.foretold = beside.done
        self.end(_BESIDE)

    def end(self, at: ModelPhase) -> None:
        """A phase is over, whatever was foretold of it."""
        effort = self[at]
        effort.over, effort.seen = True, effort.spent

    def computing(self) -> float:
        """Seconds until all is computed."""
        return self._left(at for at in self._efforts if at[1] in _COMPUTING)

    def computing_after_texts(self) -> float:
        """Those of them that follow the last model's last text."""
        models = [work.model.id for work in self.gallery.works[-1:]]
        phases = {(model, phase) for model in models for phase in _AFTER_TEXTS}
        return self._left(phases | {("", Phase.MATCHING)})

    def ending(self, beside: float, after_texts: float) -> tuple[float, float]:
        """Seconds of drawing and storing once all is computed, and of drawing before that.

        beside: seconds until then in which this job's figures can be drawn; after_texts: those of
        them once its last text is read.
        """
        storing = self["", Phase.STORING].seconds_left(1.0)
        if self[_BESIDE].over:
            return self[_DRAWING].seconds_left(1.0) + storing, 0.0
        pace = self[_BESIDE].factor
        left = max(self[_DRAWING].foretold - self[_BESIDE].done, 0.0)
        late = self.gallery.final + max(self.gallery.last - after_texts / pace, 0.0)
        tail = max(left - beside / pace, min(left, late))
        return tail * self._drawing_factor() + storing, (left - tail) * pace

    def measured(self) -> dict[ModelPhase, tuple[float, float]]:
        """(foretold, spent) seconds of the phases that are over."""
        return {
            at: (max(effort.foretold, effort.done), effort.spent)
            for at, effort in self._efforts.items()
            if effort.over and effort.foretold > 0
        }

    @property
    def drift(self) -> float:
        """How much slower than known the job's computing is, as far as it has shown."""
        whole = weights = 0.0
        for (_, phase), effort in self._efforts.items():
            if phase not in _APART and effort.begun:
                weight = effort.seen * (1.0 if effort.cost.weight else _GUESS_SHARE)
                whole += weight * effort.missed
                weights += weight
        return math.exp(whole / (weights + _DRIFT_SECONDS))

    def _left(self, phases: Iterable[ModelPhase]) -> float:
        drift = self.drift
        return sum(
            self._efforts[at].seconds_left(1.0 if at[1] in _APART else drift)
            for at in phases
            if at in self._efforts
        )

    def _drawing_factor(self) -> float:
        """Seconds here of a second of drawing, once all is computed."""
        drawing, beside = self[_DRAWING].cost, self[_BESIDE]
        if not drawing.weight:
            return beside.factor / _SHARED
        return drawing.factor * (beside.factor / beside.cost.factor if beside.cost.weight else 1.0)


def _guess(at: ModelPhase) -> Cost:
    return Cost(_SHARED) if at == _BESIDE else Cost()


def fraction_of(elapsed: float, remaining: float) -> float:
    """The share of a job's seconds that is over, 0 to 1."""
    whole = elapsed + remaining
    return elapsed / whole if whole > 0 else 0.0


def rounded(seconds: float) -> float:
    """An estimate to two significant digits, and to a tenth of a second at most."""
    if seconds <= 0:
        return 0.0
    digits = 1 - math.floor(math.log10(seconds))
    return round(seconds, min(digits, 1))
