"""The compiled causal convolution against its float64 twin, in every layout and size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import causal_conv as twin
from workers.kernels.causal_conv import causal_conv

# Sums of a few float32 terms: an error of a few 1e-7 of the largest value.
RELATIVE = 2e-6
LENGTHS = st.one_of(st.integers(1, 8), st.sampled_from([31, 32, 33, 34, 35, 64, 67]))


def inputs(b: int, d: int, length: int, taps: int, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"u": (b, d, length), "weight": (d, taps), "bias": (d,), "initial": (b, d, taps - 1)}
    return {name: 2 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    if expected.numel():
        scale = float(expected.detach().abs().max())
        assert float((actual - expected).detach().abs().max()) <= RELATIVE * scale + 1e-30


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 3),
    d=st.sampled_from([1, 7, 63, 64, 65, 130]),
    length=LENGTHS,
    taps=st.integers(1, 5),
    left_out=st.sets(st.sampled_from(["bias", "initial"])),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_equal_the_twin(
    b: int, d: int, length: int, taps: int, left_out: set[str], seed: int
) -> None:
    tensors = {k: v for k, v in inputs(b, d, length, taps, seed).items() if k not in left_out}
    names = [name for name in ("u", "initial") if name in tensors]
    form = torch.randn(b, d, length, generator=torch.Generator().manual_seed(seed + 1))
    found = []
    for function, dtype in ((causal_conv, torch.float32), (twin.causal_conv, torch.float64)):
        leaves = {k: v.to(dtype).requires_grad_(k in names) for k, v in tensors.items()}
        out = function(**leaves)
        wanted = [leaves[name] for name in names]
        found.append([out, *torch.autograd.grad((out * form.to(dtype)).sum(), wanted)])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs)


def test_any_memory_layout_gives_the_same_bits() -> None:
    tensors = inputs(2, 70, 40, 4, 0)
    expected = causal_conv(**tensors)
    u = tensors.pop("u")
    wide = torch.cat([u, u], dim=1).transpose(1, 2).contiguous().transpose(1, 2)
    for view in (wide[:, :70], u.repeat_interleave(2, dim=2)[:, :, ::2]):
        assert torch.equal(causal_conv(view, **tensors), expected)


@pytest.mark.parametrize(("b", "d", "length"), [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_empty_sizes(b: int, d: int, length: int) -> None:
    tensors = inputs(b, d, length, 3, 0)
    tensors["u"].requires_grad_()
    out = causal_conv(**tensors)
    assert out.shape == (b, d, length)
    (grad,) = torch.autograd.grad(out.sum(), tensors["u"])
    assert grad.shape == (b, d, length)


def test_half_precision_accumulates_in_float32() -> None:
    tensors = {k: v.bfloat16() for k, v in inputs(1, 8, 20, 4, 0).items()}
    out = causal_conv(**tensors)
    assert out.dtype == torch.bfloat16
    error = (out.double() - twin.causal_conv(**tensors)).abs()
    # bfloat16 rounds the result itself to 2^-9.
    assert float(error.max()) <= 2**-8 * float(out.abs().max())


def test_wrong_shapes_and_trained_weights_are_refused() -> None:
    tensors = inputs(1, 4, 6, 3, 0)
    with pytest.raises(ValueError, match=r"give \(batch, channel, token\) and \(channel, tap\)"):
        causal_conv(tensors["u"], tensors["weight"][:3])
    with pytest.raises(ValueError, match=r"initial has shape \(1, 4, 1\); give \(1, 4, 2\)"):
        causal_conv(tensors["u"], tensors["weight"], None, tensors["initial"][..., :1])
    tensors["weight"].requires_grad_()
    with pytest.raises(ValueError, match="require a gradient"):
        causal_conv(**tensors)
