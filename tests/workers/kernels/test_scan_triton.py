"""The selective scan on a GPU; without one it runs under Triton's interpreter on short texts."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference.selective_scan import selective_scan as reference

_scan_triton = pytest.importorskip("workers.kernels._scan_triton")

DEVICE = torch.device("cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu")


def inputs(texts: int, channels: int, length: int, states: int, scale: float, seed: int) -> Any:
    """x, dt, A, B, C, D, z, bias in float32."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    wide = (texts, channels, length)
    return [
        normal(*wide),
        normal(*wide) * scale,
        -normal(channels, states).exp(),
        normal(texts, states, length),
        normal(texts, states, length),
        normal(channels),
        normal(*wide),
        normal(channels),
    ]


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    difference = (found.detach().cpu().double() - wanted.detach()).abs().max()
    assert difference <= tolerance * max(1e-30, float(wanted.detach().abs().max()))


# Four channels a program of 17 states, one chunk of three tokens and another begun; steps from
# e^-30 to 30, with which nothing is forgotten and everything is.
@settings(deadline=None, max_examples=5)
@given(
    st.integers(1, 2),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(1, 17),
    st.sampled_from([0.1, 3.0, 30.0]),
    st.integers(0, 10**6),
)
@example(2, 6, 7, 17, 1.0, 0)
@example(1, 1, 1, 1, 1.0, 1)
def test_forward_and_backward(
    texts: int, channels: int, length: int, states: int, scale: float, seed: int
) -> None:
    values = inputs(texts, channels, length, states, scale, seed)
    ours = [v.to(DEVICE).requires_grad_() for v in values]
    theirs = [v.double().requires_grad_() for v in values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_scan_triton, "CHUNK", 3)
        found = _scan_triton.selective_scan(*ours, delta_softplus=True, return_last_state=True)
        weights = inputs(texts, channels, length, states, 1.0, seed + 1)
        wanted = reference(*theirs, delta_softplus=True)
        last = torch.randn(wanted[1].shape, generator=torch.Generator().manual_seed(seed))
        cotangents = [weights[0], last]
        actual = torch.autograd.grad(found, ours, [v.to(DEVICE) for v in cotangents])
    expected = torch.autograd.grad(wanted, theirs, [v.double() for v in cotangents])
    # float32 rounding of at most 7 steps; a sum may be ten times smaller than its terms.
    for ours_is, theirs_is in zip([*found, *actual], [*wanted, *expected], strict=True):
        close(ours_is, theirs_is, 2e-5)


def test_without_what_may_be_left_out() -> None:
    x, dt, A, B, C, *_ = inputs(1, 3, 4, 2, 1.0, 0)
    system = [v.to(DEVICE) for v in (x, dt.abs(), A, B, C)]
    with torch.no_grad():
        found = _scan_triton.selective_scan(*system)
    close(found, reference(x, dt.abs(), A, B, C)[0], 2e-6)


def test_half_precision_in_and_out_is_computed_in_float32() -> None:
    values = [v.bfloat16() for v in inputs(1, 3, 5, 4, 1.0, 3)]
    found = _scan_triton.selective_scan(
        *(v.to(DEVICE) for v in values), delta_softplus=True, return_last_state=True
    )
    wanted = reference(*values, delta_softplus=True)
    assert (found[0].dtype, found[1].dtype) == (torch.bfloat16, torch.float32)
    # One rounding to bfloat16, at the end.
    close(found[0], wanted[0], 2**-8)
    close(found[1], wanted[1], 2e-6)
