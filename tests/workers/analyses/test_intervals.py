"""Intervals of a mean: how often they hold it, tables of Student's t, and the memory they take."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.analyses.intervals import bootstrapped, mean_interval, student_quantile


def test_the_interval_holds_the_truth_about_95_times_of_100() -> None:
    """1,000 experiments of 100 normal texts each; the percentile bootstrap is right in 94 %."""
    truth, experiments = 3.0, 1000
    values = np.random.default_rng(1).normal(truth, 2.0, size=(100, experiments))
    mean, low, high = bootstrapped(values, seed=2, resamples=2000)
    right = float(((low <= truth) & (truth <= high)).mean())
    # Four standard deviations of the share are 0.03.
    assert 0.91 < right < 0.97
    np.testing.assert_allclose(mean, values.mean(0))
    # As wide as theory has it: 2 * 1.96 standard errors, with n in place of n - 1.
    width = (high - low) / (2 * 1.959964 * values.std(0) / 10)
    assert width.mean() == pytest.approx(1.0, abs=0.01)


@settings(deadline=None, derandomize=True)
@given(
    value=st.floats(-1e9, 1e9, allow_subnormal=False),
    texts=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_of_texts_that_are_all_alike_the_interval_is_the_number_itself(
    value: float, texts: int, seed: int
) -> None:
    """One text is the case that every job has."""
    found = bootstrapped(np.full((texts, 1), value), seed, 50)
    assert found.tolist() == [[value]] * 3


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_an_interval_lies_within_the_texts(values: list[float], seed: int) -> None:
    _, low, high = bootstrapped(np.array(values)[:, None], seed, 100)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= low[0] <= high[0] <= max(values) + slack


def test_many_texts_take_a_bounded_part_of_memory() -> None:
    """All draws at once would be 2,000 x 5,000 numbers, 80 MB, and their indices as many."""
    values = np.random.default_rng(0).normal(size=(5000, 8))
    tracemalloc.start()
    bootstrapped(values, seed=0, resamples=2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 70e6


# Any table of Student's t, two-sided 95 %.
@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (19, 2.09302),
        (30, 2.04227),
        (199, 1.97196),
    ],
)
def test_students_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_quantile(degrees) == pytest.approx(quantile, rel=1e-5)


def test_the_interval_holds_the_mean_in_95_percent_of_experiments() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    held = 0
    for values in draws:
        mean, low, high = mean_interval(values)
        assert low <= mean <= high
        held += low <= 3.0 <= high
    # Five standard deviations of a share of 0.95 among 4000 are 0.017.
    assert abs(held / 4000 - 0.95) < 0.017
    with pytest.raises(ValueError, match="two"):
        mean_interval(np.array([1.0]))
