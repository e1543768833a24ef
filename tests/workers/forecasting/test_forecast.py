"""The estimate by itself: finite, never negative, and as true as what it is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.costs import Cost
from workers.forecasting.forecast import FINISHING, Forecast, Phase, fraction_of, rounded

SECONDS = st.floats(0.0, 1e6)
COMPUTING = ("m", Phase.READING)


def forecast(seconds: dict[Phase, float], cost: Cost | None = None) -> Forecast:
    found = Forecast()
    foretold = {("m", phase): value for phase, value in seconds.items()}
    found.expect(foretold, {} if cost is None else dict.fromkeys(foretold, cost))
    return found


def spend(found: Forecast, phase: Phase, foretold: float, spent: float) -> None:
    found["m", phase].spent += spent
    found.do(("m", phase), foretold)


def rest(found: Forecast) -> float:
    return found.computing() + found.finishing()


def test_before_anything_ran_the_rest_is_what_was_foretold() -> None:
    whole = forecast(dict.fromkeys(Phase, 2.0))
    assert rest(whole) == pytest.approx(2.0 * len(Phase))
    assert whole.finishing() == pytest.approx(2.0 * len(FINISHING))


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


def test_one_job_takes_over_what_others_need() -> None:
    first, second = forecast({Phase.TRACING: 3.0}), forecast({Phase.TRACING: 4.0})
    first.take_over(("m", Phase.TRACING), [second])
    assert (rest(first), rest(second)) == (pytest.approx(7.0), 0.0)


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
        for part in (found.computing(), found.finishing()):
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
