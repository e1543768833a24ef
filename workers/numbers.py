"""Numbers as the document has them: seven significant digits, which is what float32 holds."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

SIGNIFICANT_DIGITS = 7
# Powers of ten that float64 holds exactly: a whole number divided by one is the double nearest to
# the decimal that is meant, and prints as that.
_POWERS = np.array([float(f"1e{power}") for power in range(23)])


def rounded(values: Floats) -> Floats:
    """Each value at seven significant digits, as the double nearest to that decimal."""
    with np.errstate(divide="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    places = SIGNIFICANT_DIGITS - 1 - np.where(np.isfinite(magnitude), magnitude, 0).astype(int)
    up = _POWERS[np.clip(places, 0, 22)]
    down = _POWERS[np.clip(-places, 0, 22)]
    # Adding 0.0 turns -0.0 into 0.0.
    near: Floats = np.rint(values * up / down) * down / up + 0.0
    for place in np.argwhere((places > 22) | (places < -22)):
        # Powers beyond the table are not exact; such numbers are rare.
        near[tuple(place)] = float(f"{values[tuple(place)]:.{SIGNIFICANT_DIGITS}g}")
    return near


def listed(values: Floats) -> list[float]:
    """The values (n,) at seven significant digits."""
    found: list[float] = rounded(values).tolist()
    return found


def number(value: float | Tensor) -> float:
    """One value, which may be a tensor of no axes, at seven significant digits."""
    return float(f"{float(value):.{SIGNIFICANT_DIGITS}g}")
