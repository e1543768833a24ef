"""The estimate by itself: finite, never negative, and as true as what it is told."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.costs import Cost
from workers.forecasting.forecast import (
    FINISHING,
    Forecast,
    ModelPhase,
    Phase,
    fraction_of,
    rounded,
)
from workers.forecasting.gallery import Gallery

SECONDS = st.floats(0.0, 1e6)
OF_JOB = FINISHING | {Phase.BESIDE, Phase.MATCHING}
COMPUTING, DRAWING, BESIDE = ("m", Phase.READING), ("", Phase.DRAWING), ("", Phase.BESIDE)


def at(phase: Phase) -> ModelPhase:
    return "" if phase in OF_JOB else "m", phase


def forecast(seconds: dict[Phase, float], cost: Cost | None = None) -> Forecast:
    found = Forecast()
    foretold = {at(phase): value for phase, value in seconds.items()}
    found.expect(foretold, {} if cost is None else dict.fromkeys(foretold, cost))
    return found


def spend(found: Forecast, phase: Phase, foretold: float, spent: float) -> None:
    found[at(phase)].spent += spent
    found.do(at(phase), foretold)


def rest(found: Forecast) -> float:
    computing = found.computing()
    return computing + found.ending(computing, found.computing_after_texts())[0]


def test_before_anything_ran_the_rest_is_what_was_foretold() -> None:
    whole = forecast(dict.fromkeys(set(Phase) - {Phase.BESIDE}, 2.0))
    # Figures that can begin only at the end are drawn after it, whatever there is time for before.
    whole.gallery = Gallery(figures=10, seconds=2.0, final=2.0)
    assert rest(whole) == pytest.approx(2.0 * (len(Phase) - 1))
    assert whole.ending(0.0, 0.0)[0] == pytest.approx(2.0 * len(FINISHING))


def test_measured_costs_scale_it() -> None:
    assert rest(forecast({Phase.READING: 10.0}, Cost(3.0, 20.0))) == pytest.approx(30.0)


def test_a_phase_is_corrected_by_its_own_pace() -> None:
    found = forecast({Phase.READING: 100.0})
    for _ in range(50):
        spend(found, Phase.READING, 1.0, 4.0)
    assert rest(found) == pytest.approx(200.0, rel=0.1)


def test_a_busy_machine_is_noticed_for_what_has_not_begun() -> None:
    found = forecast({Phase.TRACING: 50.0, Phase.READING: 50.0}, Cost(1.0, 60.0))
    spend(found, Phase.TRACING, 50.0, 150.0)
    found.end(("m", Phase.TRACING))
    assert rest(found) == pytest.approx(150.0, rel=0.1)


def test_what_is_under_way_counts_by_its_time() -> None:
    found = forecast({Phase.READING: 10.0})
    found["m", Phase.READING].spent += 4.0
    assert rest(found) == pytest.approx(6.0)
    found["m", Phase.READING].spent += 100.0
    assert 0 < rest(found) < 1.0


def test_a_phase_that_is_over_is_over() -> None:
    found = forecast({Phase.READING: 10.0})
    spend(found, Phase.READING, 1.0, 1.0)
    found.end(COMPUTING)
    assert rest(found) == 0.0
    assert found.measured() == {COMPUTING: (10.0, 1.0)}


@dataclass
class Painted:
    """A job that computes for `computing` seconds and draws 100 figures, some of them beside that.

    A figure takes 0.1 foretold seconds, `idle` times as many here, and `busy` times as many while
    the job computes; `late` of them begin only after that.
    """

    computing: float
    busy: float
    idle: float
    late: int
    worst: float = 1.0

    def run(self, costs: dict[ModelPhase, Cost], since: float) -> dict[ModelPhase, Cost]:
        """Run it, and hear by what factor the rest is told wrong at worst; what was learnt."""
        found = Forecast()
        found.gallery = Gallery(figures=100, seconds=10.0, final=self.late * 0.1)
        foretold = {COMPUTING: self.computing, DRAWING: 10.0, BESIDE: 10.0}
        found.expect(foretold, costs)
        each = 0.1 * self.busy
        beside = min(int(self.computing / each), 100 - self.late)
        after = (100 - beside) * 0.1 * self.idle
        self.worst, elapsed = 1.0, 0.0
        for second in range(round(self.computing)):
            for _ in range(min(int((second + 1) / each), beside) - round(found[BESIDE].done / 0.1)):
                found.drawn(0.1, each)
            spend(found, Phase.READING, 1.0, 1.0)
            elapsed += 1.0
            self._judge(found, since, elapsed, self.computing + after)
        while round(found[BESIDE].done / 0.1) < beside:
            found.drawn(0.1, each)
        found.end(COMPUTING)
        found.collect(10.0 - beside * 0.1)
        for drawn in range(100 - beside):
            found[DRAWING].spent += 0.1 * self.idle
            found.reach(DRAWING, (drawn + 1) / (100 - beside))
            elapsed += 0.1 * self.idle
            self._judge(found, since, elapsed, self.computing + after)
        found.end(DRAWING)
        learnt = found.measured()
        return {at: Cost().after(*seconds) for at, seconds in learnt.items()}

    def _judge(self, found: Forecast, since: float, elapsed: float, whole: float) -> None:
        true = whole - elapsed
        if elapsed >= since * whole and true > 0.1 * whole:
            said = rest(found)
            self.worst = max(self.worst, said / true, true / max(said, 1e-9))


@pytest.mark.parametrize("computing", [10.0, 30.0, 100.0])
@pytest.mark.parametrize(("busy", "idle"), [(3.0, 1.0), (6.0, 3.0), (8.0, 2.0), (0.9, 0.3)])
@pytest.mark.parametrize("late", [1, 20, 100])
def test_what_is_drawn_beside_the_computing_takes_no_time_of_its_own(
    computing: float, busy: float, idle: float, late: int
) -> None:
    job = Painted(computing, busy, idle, late)
    learnt = job.run({}, since=0.25)
    # Of what cannot begin before, nothing is seen before.
    assert job.worst <= (2.0 if late < 100 else 1.2 * max(idle, 1 / idle))
    job.run(learnt, since=0.0)
    assert job.worst <= 1.2


def test_the_last_text_is_drawn_while_what_follows_it_is_computed() -> None:
    found = forecast(
        {Phase.READING: 4.0, Phase.MATCHING: 30.0, Phase.DRAWING: 5.0}, Cost(1.0, 60.0)
    )
    found.gallery = Gallery(figures=50, seconds=5.0, last=5.0)
    assert rest(found) == pytest.approx(34.0)
    spend(found, Phase.READING, 4.0, 4.0)
    found.end(COMPUTING)
    spend(found, Phase.MATCHING, 29.0, 29.0)
    assert rest(found) > 4.0
    found.drawn(5.0, 15.0)
    assert rest(found) == pytest.approx(1.0)


def test_what_is_over_is_not_foretold_again() -> None:
    found = forecast({Phase.READING: 10.0})
    spend(found, Phase.READING, 10.0, 10.0)
    found.end(COMPUTING)
    found.expect({COMPUTING: 50.0}, {})
    assert rest(found) == 0.0
    assert found.measured() == {COMPUTING: (10.0, 10.0)}


def test_a_phase_that_did_more_than_was_foretold_of_it_teaches_by_what_it_did() -> None:
    found = forecast({Phase.READING: 1.0})
    spend(found, Phase.READING, 8.0, 16.0)
    found.end(COMPUTING)
    assert found.measured() == {COMPUTING: (8.0, 16.0)}


def test_a_job_that_draws_nothing_waits_for_nothing() -> None:
    found = forecast({Phase.READING: 4.0, Phase.DRAWING: 5.0, Phase.BESIDE: 5.0})
    spend(found, Phase.READING, 4.0, 4.0)
    found.end(COMPUTING)
    found.collect(0.0)
    assert rest(found) == 0.0
    assert BESIDE not in found.measured()


@given(
    st.dictionaries(st.sampled_from(Phase), SECONDS),
    st.lists(st.tuples(st.sampled_from(Phase), SECONDS, SECONDS), max_size=20),
    st.floats(1e-3, 1e3),
)
def test_the_rest_is_finite_and_never_negative(
    foretold: dict[Phase, float], done: list[tuple[Phase, float, float]], factor: float
) -> None:
    found = forecast(foretold, Cost(factor, 10.0))
    for phase, seconds, spent in done:
        spend(found, phase, seconds, spent)
        for part in (found.computing(), found.ending(0.0, 0.0)[0], rest(found)):
            assert math.isfinite(part)
            assert part >= 0.0


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=20), st.floats(0.1, 10.0))
def test_a_steady_job_goes_steadily_to_its_end(steps: list[float], pace: float) -> None:
    found = forecast({Phase.READING: sum(steps)}, Cost(pace, 60.0))
    reached, elapsed = 0.0, 0.0
    for step in steps:
        spend(found, Phase.READING, step, step * pace)
        elapsed += step * pace
        fraction = fraction_of(elapsed, rest(found))
        assert reached <= fraction + 1e-9
        reached = fraction
    found.end(COMPUTING)
    assert fraction_of(elapsed, rest(found)) == 1.0


@given(SECONDS, SECONDS)
def test_a_fraction_is_one(elapsed: float, remaining: float) -> None:
    assert 0.0 <= fraction_of(elapsed, remaining) <= 1.0


@given(SECONDS)
def test_rounding_keeps_two_digits(seconds: float) -> None:
    assert abs(rounded(seconds) - seconds) <= max(0.05 * seconds, 0.05) * 1.001


@pytest.mark.parametrize(("seconds", "said"), [(0.0, 0.0), (0.04, 0.0), (3.14, 3.1), (147, 150)])
def test_said(seconds: float, said: float) -> None:
    assert rounded(seconds) == said
