"""That two ways give the same numbers, before any of them is timed."""

import numpy as np
from numpy.typing import ArrayLike

# Two float32 computations of all layers, summed in different orders, agree to about 1e-5.
_TOLERANCE = 1e-3


def require_close(what: str, ours: ArrayLike | None, theirs: ArrayLike) -> None:
    """Raise AssertionError unless both are the same, as a share of the largest number."""
    assert ours is not None, f"{what}: there is none of ours"
    one, two = np.asarray(ours), np.asarray(theirs)
    difference = float(np.abs(one - two).max() / np.abs(two).max())
    if not difference <= _TOLERANCE:
        raise AssertionError(f"{what}: the two ways differ by {difference:.1e} of the largest")
