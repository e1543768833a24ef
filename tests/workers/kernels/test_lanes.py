"""Lanes against numpy, lane by lane."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from workers.kernels._lanes import (
    LANES,
    exp_lanes,
    load,
    splat,
    spread,
    store,
    total,
    transpose,
)

A, B = np.random.default_rng(0).standard_normal((2, LANES)).astype(np.float32)


@njit
def exponentials(x: Any, out: Any) -> None:
    for k in range(0, x.size, LANES):
        store(out, k, exp_lanes(load(x, k)))


def test_exponential() -> None:
    x = -np.abs(np.random.default_rng(1).standard_normal(1 << 14) * 40).astype(np.float32)
    x[:5] = 0.0, -87.3, -87.4, -1e30, -np.inf
    out = np.empty_like(x)
    exponentials(x, out)
    wanted = np.exp(x.astype(np.float64))
    normal = wanted > np.finfo(np.float32).tiny
    # Two units in the last place; below the smallest normal number a zero.
    assert np.abs(out[normal] / wanted[normal] - 1).max() < 1.2e-7 * 2
    assert out[0] == 1.0
    assert out[1] > 0.0
    assert not out[~normal].any()


@njit
def arithmetic(a: Any, b: Any, out: Any) -> float:
    x, y = load(a, 0), load(b, 0)
    half = np.float32(0.5)
    x += x * y
    store(out, 0, half * (x + splat(b[1]) * half) + spread(a, 3))
    return total(x)


def test_arithmetic_and_sum() -> None:
    out = np.empty_like(A)
    got = arithmetic(A, B, out)
    x = A + A * B
    assert out == pytest.approx(0.5 * (x + 0.5 * B[1]) + A[3], rel=1e-6, abs=1e-7)
    assert got == pytest.approx(float(x.sum(dtype=np.float64)), rel=1e-5)


@njit
def turned(rows: Any, out: Any) -> None:
    transpose(rows, 2, rows.shape[1], out, 1, out.shape[1])


def test_transpose() -> None:
    rows = np.arange(LANES * 11, dtype=np.float32).reshape(LANES, 11)
    out = np.full((LANES, 9), -1, np.float32)
    turned(rows, out)
    assert np.array_equal(out[:, 1:], rows[:, 2 : 2 + LANES].T)
    assert np.all(out[:, 0] == -1)
