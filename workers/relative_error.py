"""How every self-check states its error."""

import math


def relative_error(difference: float, scale: float) -> float:
    """difference / scale, both >= 0; 0 without a difference, infinity where it is not a number."""
    if difference == 0.0:
        return 0.0
    error = difference / scale if scale > 0.0 else math.inf
    return math.inf if math.isnan(error) else error
