from __future__ import annotations

import platform
from typing import Any

import numpy as np
from numba import njit

from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._simd import decay64, exp32


@njit
def exponentials(x: Any, single: Any, double: Any) -> None:
    for i in range(x.size):
        single[i] = exp32(np.float32(x[i]))
        double[i] = decay64(np.float32(x[i]))


@njit(fastmath={"reassoc", "contract", "nsz"})
def reassociated(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exp32(x[i])


@njit
def halve(value: Any, out: Any) -> None:
    mode = begin_flushing()
    for i in range(value.size):
        out[0, i] = value[i] * np.float32(0.5)
    end_flushing(mode)
    for i in range(value.size):
        out[1, i] = value[i] * np.float32(0.5)


def test_exponentials_to_about_one_unit_in_the_last_place() -> None:
    x = np.linspace(-87.3, 0, 200_001).astype(np.float32).astype(np.float64)
    single, double = np.empty(x.size, np.float32), np.empty(x.size)
    exponentials(x, single, double)
    exact = np.exp(x)
    assert (np.abs(single - exact) <= 1.1 * np.spacing(exact.astype(np.float32))).all()
    assert (np.abs(double - exact) <= 1e-7 * exact).all()


def test_decays_near_one_keep_what_they_are_short_of_it() -> None:
    x = -np.logspace(-12, -0.47, 200_001).astype(np.float32).astype(np.float64)
    single, double = np.empty(x.size, np.float32), np.empty(x.size)
    exponentials(x, single, double)
    # One float32 rounding of e^x - 1, and one of the float64 sum with 1.
    assert (np.abs(double - np.exp(x)) <= -1e-7 * np.expm1(x) + 2.0**-52).all()


def test_true_zeros_and_exact_one() -> None:
    x = np.array([0.0, -0.0, -87.5, -800.0, -3e38])
    single, double = np.empty(x.size, np.float32), np.empty(x.size)
    exponentials(x, single, double)
    assert single.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert double[:2].tolist() == [1.0, 1.0]
    assert double[3:].tolist() == [0.0, 0.0]


def test_a_callers_fast_math_does_not_reach_the_rounding_step() -> None:
    x = np.linspace(-20, 0, 64).astype(np.float32)
    out = np.empty_like(x)
    reassociated(x, out)
    assert np.allclose(out, np.exp(x), rtol=1e-6)


def test_denormals_flush_only_between_the_two_calls() -> None:
    out = np.empty((2, 40), np.float32)
    halve(np.full(40, np.finfo(np.float32).tiny), out)
    assert (out[1] > 0).all()
    if platform.machine() in {"x86_64", "AMD64"}:
        assert not out[0].any()
