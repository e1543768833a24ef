"""Measured costs, as workers learn and share them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import Jobs
from jobs.costs import Cost, Costs
from schemas.settings import Settings

SECONDS = st.floats(0.5, 1e5)


def test_what_one_worker_learns_another_knows(settings: Settings, jobs: Jobs) -> None:
    Costs(jobs.redis, settings).learn({"a": (2.0, 6.0), "b": (1.0, 0.5)})
    other = Costs(jobs.redis, settings)
    found = other.known(["a", "b", "c"])
    assert found == {"a": Cost(3.0, 6.0), "b": Cost(0.5, 0.5)}
    other.learn({"a": (2.0, 2.0)})
    assert other.known(["a"])["a"] == Cost(2.0, 8.0)


def test_installations_do_not_share(settings: Settings, jobs: Jobs) -> None:
    Costs(jobs.redis, settings).learn({"a": (1.0, 2.0)})
    other = settings.model_copy(update={"key_prefix": settings.key_prefix + "x"})
    assert Costs(jobs.redis, other).known(["a"]) == {}


def test_nothing_asked_is_nothing_known(settings: Settings, jobs: Jobs) -> None:
    costs = Costs(jobs.redis, settings)
    costs.learn({})
    assert costs.known([]) == {}


def test_the_latest_minute_outweighs_what_came_before() -> None:
    cost = Cost()
    for _ in range(100):
        cost = cost.after(10.0, 10.0)
    for _ in range(20):
        cost = cost.after(10.0, 40.0)
    assert cost.factor == pytest.approx(4.0, rel=0.05)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1))
def test_a_cost_lies_between_the_ratios_measured(measured: list[tuple[float, float]]) -> None:
    cost = Cost()
    for foretold, spent in measured:
        cost = cost.after(foretold, spent)
    ratios = [spent / foretold for foretold, spent in measured]
    assert min(ratios) * 0.999 <= cost.factor <= max(ratios) * 1.001
