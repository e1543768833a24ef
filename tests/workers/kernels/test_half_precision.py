"""The scan on activations in half precision: parameters, state and sums stay float32."""

import pytest
import torch

from workers.kernels.selective_scan import selective_scan

D, LENGTH, N = 24, 300, 8
ACTIVATIONS = ("hidden_states", "dt", "B", "C", "z")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_activations_meet_float32_parameters(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "hidden_states": torch.randn(1, D, LENGTH, generator=draw),
        "dt": torch.randn(1, D, LENGTH, generator=draw) - 2,
        "A": -8 * torch.rand(D, N, generator=draw),
        "B": torch.randn(1, N, LENGTH, generator=draw),
        "C": torch.randn(1, N, LENGTH, generator=draw),
        "D": torch.randn(D, generator=draw),
        "z": torch.randn(1, D, LENGTH, generator=draw),
        "delta_bias": torch.randn(D, generator=draw),
    }
    for name in ACTIVATIONS:
        tensors[name] = tensors[name].to(dtype)
    half, state = selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    widened = {name: tensor.float() for name, tensor in tensors.items()}
    wide, wide_state = selective_scan(**widened, delta_softplus=True, return_last_state=True)
    assert (half.dtype, state.dtype) == (dtype, torch.float32)
    # The same float32 numbers, rounded once at the end.
    assert torch.equal(half, wide.to(dtype))
    assert torch.equal(state, wide_state)
