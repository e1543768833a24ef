"""How every self-check states its error."""

import math

import torch
from torch import Tensor


def relative_error(difference: Tensor, scale: Tensor) -> Tensor:
    """difference / scale, both >= 0, in float64, entry by entry.

    0 without a difference, infinity where it is not a number. Stays on the tensors' device.
    """
    # A scale of -0.0 would make it minus infinity, which is below every tolerance.
    error = torch.where(difference == 0, 0.0, difference.double() / scale.abs())
    return torch.where(error.isnan(), math.inf, error)
