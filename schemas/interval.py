"""A mean that is known within bounds."""

from schemas.base import Contract


class Interval(Contract):
    """A mean with the bounds of its 95 % confidence interval."""

    mean: float
    low: float
    high: float
