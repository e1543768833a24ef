"""The self-checks on matrices of known error."""

import math

import pytest
import torch

from schemas.problem import ProblemError
from workers.analyses.checks import Checks, require_agreement, row_sum_error


def test_the_error_is_relative_to_what_was_added_up() -> None:
    matrix = torch.tensor([[4.0, 0.0], [3.0, -3.0]])
    # Row 1 adds up 6 in magnitude, so being off by 0.03 is 0.005 of it.
    assert row_sum_error(matrix, torch.tensor([4.0, 0.03]), torch.zeros(2)) == pytest.approx(0.005)


def test_a_scan_that_is_larger_than_the_matrix_sets_the_scale() -> None:
    expected = torch.tensor([0.0, 5.0])
    assert row_sum_error(torch.zeros(2, 2), expected, expected) == 1.0


def test_what_cancelled_between_channels_sets_the_scale() -> None:
    matrix, expected = torch.tensor([[1e-7]]), torch.tensor([2e-7])
    assert row_sum_error(matrix, expected, torch.tensor([1.0])) == pytest.approx(1e-7)


def test_zero_against_zero_agrees() -> None:
    assert row_sum_error(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1)) == 0.0


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_a_number_never_agrees(broken: float) -> None:
    error = row_sum_error(torch.tensor([[broken]]), torch.zeros(1), torch.zeros(1))
    assert error == math.inf
    for value in (float(error), math.nan):
        with pytest.raises(ProblemError, match="Layer 3"):
            require_agreement("row-sum error", 3, value, 1e-4)


def test_the_tolerance_itself_is_allowed() -> None:
    require_agreement("row-sum error", 3, 1e-4, 1e-4)


def test_checks_are_judged_together_in_their_order() -> None:
    checks = Checks(3, 1e-4)
    checks.agreement("reconstruction error", torch.tensor(1e-5))
    checks.finite("`rollout`", {"matrix": torch.zeros(2), "row": torch.tensor([math.nan])})
    checks.agreement("row-sum error", torch.tensor(math.inf))
    with pytest.raises(ProblemError, match="the row of `rollout` holds infinities or NaN"):
        checks.settle()
    checks.agreement("row-sum error", torch.tensor(2e-4))
    with pytest.raises(ProblemError, match=r"row-sum error is 0\.0002"):
        checks.settle()
    checks.settle()
