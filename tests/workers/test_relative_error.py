"""The one number that every self-check is judged by."""

import math

import pytest
import torch

from workers.relative_error import relative_error

NAN, INF = float("nan"), math.inf


@pytest.mark.parametrize(
    ("difference", "scale", "error"),
    [
        (0.5, 2.0, 0.25),
        (0.0, 0.0, 0.0),
        (0.0, -0.0, 0.0),
        (1.0, 0.0, INF),
        (1.0, -0.0, INF),
        (NAN, 1.0, INF),
        (1.0, NAN, INF),
        (INF, 1.0, INF),
        (INF, INF, INF),
    ],
)
def test_error(difference: float, scale: float, error: float) -> None:
    assert float(relative_error(torch.tensor(difference), torch.tensor(scale))) == error
