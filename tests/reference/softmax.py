"""Slow float64 twin of softmax attention, entry by entry."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def alpha(
    queries: Array,
    keys: Array,
    scaling: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Array | None = None,
) -> Array:
    """(h, t, s) of queries (h, l, e) and keys (k, l, e); sinks (h,) or None."""
    heads, length, _ = queries.shape
    shared = heads // len(keys)
    found = np.zeros((heads, length, length))
    for h in range(heads):
        for t in range(length):
            first = 0 if window is None else max(0, t - window + 1)
            for s in range(first, t + 1):
                score = scaling * float(queries[h, t] @ keys[h // shared, s])
                score = score if cap is None else cap * math.tanh(score / cap)
                found[h, t, s] = math.exp(score)
            sink = 0.0 if sinks is None else math.exp(sinks[h])
            found[h, t] /= found[h, t].sum() + sink
    return found
