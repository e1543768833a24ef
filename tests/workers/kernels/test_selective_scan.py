"""The compiled scan against its float64 twin, transformers' own scan, and a whole model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.mamba import modeling_mamba

from tests.reference import selective_scan as twin
from workers.kernels import selective_scan as fast

# Float32 sums over l and n terms: an error of a few 1e-7 of the largest value, with room.
RELATIVE = 5e-6
NAMES = ("hidden_states", "dt", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
BORDERS = (1, 2, 31, 32, 33, 63, 64, 65)


def inputs(b: int, d: int, length: int, n: int, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    return {
        "hidden_states": normal(b, d, length),
        "dt": normal(b, d, length) - 2,
        "A": -8 * torch.rand(d, n, generator=draw),
        "B": normal(b, n, length),
        "C": normal(b, n, length),
        "D": normal(d),
        "z": normal(b, d, length),
        "delta_bias": normal(d),
        "initial_state": normal(b, d, n),
    }


def assert_close(actual: Tensor, expected: Tensor, relative: float = RELATIVE) -> None:
    assert actual.shape == expected.shape
    if expected.numel():
        scale = float(expected.detach().abs().max())
        error = float((actual.detach().double() - expected.detach().double()).abs().max())
        assert error <= relative * scale + 1e-30, f"error {error:.3g} of {scale:.3g}"


def gradients(
    outputs: tuple[Tensor, Tensor], tensors: dict[str, Tensor], seed: int
) -> list[Tensor]:
    """Gradients of one random linear form of y and the last state."""
    draw = torch.Generator().manual_seed(seed)
    forms = [torch.randn(out.shape, generator=draw) for out in outputs]
    value = [(out * form).sum() for out, form in zip(outputs, forms, strict=True)]
    return list(torch.autograd.grad(value, list(tensors.values())))


def leaves(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: v.detach().to(dtype).clone().requires_grad_() for name, v in tensors.items()}


def run_fast(tensors: dict[str, Tensor], softplus: bool = True) -> tuple[Tensor, Tensor]:
    y, state = fast.selective_scan(**tensors, delta_softplus=softplus, return_last_state=True)
    return y, state


def run_twin(tensors: dict[str, Tensor], softplus: bool = True) -> tuple[Tensor, Tensor]:
    renamed = dict(tensors)
    return twin.selective_scan(renamed.pop("hidden_states"), **renamed, delta_softplus=softplus)


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 3),
    d=st.sampled_from([1, 2, 7, 15, 16, 17, 63, 64, 65, 130]),
    length=st.one_of(st.integers(1, 12), st.sampled_from(BORDERS)),
    n=st.sampled_from([1, 3, 8, 16]),
    left_out=st.sets(st.sampled_from(["D", "z", "delta_bias", "initial_state"])),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_equal_the_twin(
    b: int, d: int, length: int, n: int, left_out: set[str], seed: int
) -> None:
    tensors = {k: v for k, v in inputs(b, d, length, n, seed).items() if k not in left_out}
    ours, theirs = leaves(tensors, torch.float32), leaves(tensors, torch.float64)
    actual, expected = run_fast(ours), run_twin(theirs)
    assert_close(actual[0], expected[0])
    assert_close(actual[1], expected[1])
    pairs = zip(gradients(actual, ours, seed), gradients(expected, theirs, seed), strict=True)
    for found, wanted in pairs:
        assert_close(found, wanted)


@pytest.mark.parametrize("length", BORDERS)
def test_equal_to_the_scan_it_replaces(length: int) -> None:
    tensors = inputs(2, 20, length, 5)
    del tensors["initial_state"]
    ours, theirs = leaves(tensors, torch.float32), leaves(tensors, torch.float32)
    actual = run_fast(ours)
    expected = modeling_mamba.mamba_selective_scan(
        **theirs, delta_softplus=True, return_last_state=True
    )
    assert_close(actual[0], expected[0])
    assert_close(actual[1], expected[1])
    for found, wanted in zip(
        gradients(actual, ours, 1), gradients(expected, theirs, 1), strict=True
    ):
        assert_close(found, wanted)


def test_without_softplus_delta_is_taken_as_given() -> None:
    tensors = inputs(1, 5, 9, 4)
    del tensors["delta_bias"]
    tensors["dt"] = tensors["dt"].abs()
    ours, theirs = leaves(tensors, torch.float32), leaves(tensors, torch.float64)
    actual, expected = run_fast(ours, softplus=False), run_twin(theirs, softplus=False)
    assert_close(actual[0], expected[0])
    for found, wanted in zip(
        gradients(actual, ours, 2), gradients(expected, theirs, 2), strict=True
    ):
        assert_close(found, wanted)


def test_a_negative_step_grows_the_state() -> None:
    tensors = inputs(1, 3, 6, 2)
    del tensors["delta_bias"], tensors["initial_state"]
    assert float(tensors["dt"].min()) < 0
    assert_close(run_fast(tensors, softplus=False)[0], run_twin(tensors, softplus=False)[0])


@pytest.mark.parametrize("name", ["hidden_states", "dt", "B", "C", "z"])
def test_any_memory_layout(name: str) -> None:
    tensors = inputs(2, 6, 10, 3)
    expected = run_fast(tensors)[0]
    strided = tensors[name].repeat_interleave(2, dim=2)[:, :, ::2]
    transposed = tensors[name].transpose(1, 2).contiguous().transpose(1, 2)
    for view in (strided, transposed):
        assert torch.equal(run_fast({**tensors, name: view})[0], expected)


@pytest.mark.parametrize(("b", "d", "length"), [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_empty_sizes(b: int, d: int, length: int) -> None:
    tensors = leaves(inputs(b, d, length, 3), torch.float32)
    outputs = run_fast(tensors)
    assert outputs[0].shape == (b, d, length)
    assert outputs[1].shape == (b, d, 3)
    last = tensors["initial_state"] if length == 0 else torch.zeros(())
    assert torch.equal(outputs[1], last.expand(b, d, 3))
    for name, found in zip(NAMES, gradients(outputs, tensors, 0), strict=True):
        assert found.shape == tensors[name].shape
        assert not found.isnan().any()


def test_a_huge_step_forgets_everything_without_nan() -> None:
    tensors = inputs(1, 4, 70, 3)
    tensors["dt"][:, :, 40] = 1e4
    tensors["hidden_states"][:, :, 40] = 0
    tensors["A"] -= 0.1
    ours = leaves(tensors, torch.float32)
    y, state = run_fast(ours)
    assert y.isfinite().all()
    del tensors["initial_state"]
    after = {k: v[..., 41:] if v.ndim == 3 else v for k, v in tensors.items()}
    assert_close(y[:, :, 41:], run_fast(after)[0], 1e-7)
    found = dict(zip(NAMES, gradients((y[:, :, 41:], state), ours, 3), strict=True))
    assert all(value.isfinite().all() for value in found.values())
    assert not found["hidden_states"][:, :, :40].any()


@pytest.mark.parametrize("name", NAMES)
def test_nan_reaches_the_output(name: str) -> None:
    tensors = inputs(1, 3, 5, 2)
    tensors[name].view(-1)[0] = float("nan")
    assert run_fast(tensors)[0].isnan().any()


def test_a_gradient_that_decays_to_nothing_becomes_zero() -> None:
    tensors = inputs(1, 8, 200, 4)
    tensors["A"] = -torch.full((8, 4), 2.0)
    tensors["dt"].zero_()
    tensors["delta_bias"].zero_()
    ours = leaves(tensors, torch.float32)
    y, _ = run_fast(ours)
    (found,) = torch.autograd.grad(y[:, :, -1].sum(), [ours["hidden_states"]])
    tiny = torch.finfo(torch.float32).tiny
    assert not ((found != 0) & (found.abs() < tiny)).any()
    assert not found[:, :, :130].any()
    assert found[:, :, 150:].all()


def test_only_asked_for_gradients_are_made() -> None:
    tensors = inputs(1, 4, 6, 2)
    tensors["dt"].requires_grad_()
    torch.autograd.backward(run_fast(tensors)[0].sum())
    assert tensors["dt"].grad is not None
    assert all(v.grad is None for name, v in tensors.items() if name != "dt")


def test_gradient_of_a_gradient_is_refused() -> None:
    tensors = leaves(inputs(1, 2, 3, 2), torch.float32)
    y, _ = run_fast(tensors)
    (first,) = torch.autograd.grad(y.square().sum(), [tensors["dt"]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(first.sum())


def test_an_input_changed_before_the_backward_pass_is_noticed() -> None:
    tensors = leaves(inputs(1, 2, 3, 2), torch.float32)
    tensors["hidden_states"] = tensors["hidden_states"] * 1
    y, _ = run_fast(tensors)
    tensors["hidden_states"].detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(y.sum())


def test_half_precision_accumulates_in_float32() -> None:
    tensors = {k: v.to(torch.bfloat16) for k, v in inputs(1, 8, 100, 4).items()}
    y, state = run_fast(tensors)
    expected, _ = run_twin(tensors)
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    # bfloat16 rounds the result itself to 2^-9.
    assert_close(y, expected, 2**-8)


def test_two_halves_joined_by_the_state_are_the_whole() -> None:
    tensors = inputs(2, 70, 75, 5)
    whole, last = run_fast(tensors)

    def part(tokens: slice) -> dict[str, Tensor]:
        per_token = ("hidden_states", "dt", "B", "C", "z")
        return {k: v[..., tokens] if k in per_token else v for k, v in tensors.items()}

    first, between = run_fast(part(slice(0, 40)))
    second, end = run_fast(part(slice(40, None)) | {"initial_state": between})
    assert_close(torch.cat([first, second], dim=2), whole)
    assert_close(end, last)


def test_scan_is_hidden_attention_times_input() -> None:
    tensors = inputs(1, 9, 40, 4)
    x, B, C = (tensors[name][0].t() for name in ("hidden_states", "B", "C"))
    delta = torch.nn.functional.softplus(tensors["dt"][0].t())
    total = delta.double().cumsum(0)
    gaps = total[:, None] - total[None]
    decay = torch.exp(tensors["A"].double() * gaps[..., None].clamp(min=0))
    alpha = torch.einsum("sd,tn,sn,tsdn->dts", delta.double(), C.double(), B.double(), decay)
    expected = torch.einsum("dts,sd->td", alpha.tril(), x.double())
    rows = (value.t()[None] for value in (B, C))
    y = fast.selective_scan(x.t()[None], delta.t()[None], tensors["A"], *rows)[0].t()
    assert y.dtype == torch.float32
    assert_close(y, expected)


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_wrong_shape_is_named(name: str) -> None:
    tensors = inputs(2, 4, 6, 3)
    tensors[name] = tensors[name][:-1]
    with pytest.raises(ValueError, match=f"^{name} has shape .*; give "):
        run_fast(tensors)


def test_float64_is_refused_by_name() -> None:
    tensors = inputs(1, 2, 3, 2)
    tensors["B"] = tensors["B"].double()
    with pytest.raises(TypeError, match=r"^B is torch\.float64 on cpu"):
        run_fast(tensors)


def test_threads_give_the_same_bits() -> None:
    tensors = leaves(inputs(2, 200, 90, 8), torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            outputs = run_fast(tensors)
            results.append([*outputs, *gradients(outputs, tensors, 0)])
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)
