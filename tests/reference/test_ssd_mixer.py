"""The Mamba-2 twin against transformers' own mixer, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from tests.reference.ssd_mixer import MixerRun, run_mixer

LENGTH = 21
VARIANTS: dict[str, dict[str, Any]] = {
    "one group": {},
    "two groups, biases, limits": {
        "n_groups": 2,
        "use_bias": True,
        "time_step_limit": (0.3, 0.9),
    },
    "no bias, three taps": {"use_conv_bias": False, "conv_kernel": 3, "head_dim": 24},
}


@pytest.fixture(scope="module", params=VARIANTS)
def both(request: pytest.FixtureRequest) -> tuple[MixerRun, np.ndarray[Any, Any]]:
    """The twin's run, and the output (l, m) of the module whose random weights it has."""
    sizes = {"hidden_size": 24, "head_dim": 12, "state_size": 8, "n_groups": 1, "chunk_size": 8}
    sizes |= VARIANTS[request.param]
    config = Mamba2Config(expand=2, num_heads=48 // sizes["head_dim"], **sizes)
    torch.manual_seed(0)
    mixer = Mamba2Mixer(config, layer_idx=0).double().eval()
    with torch.no_grad():
        for weight in mixer.parameters():
            weight.copy_(torch.randn_like(weight) * 0.5)
        hidden = torch.randn(1, LENGTH, 24, dtype=torch.float64)
        with pytest.MonkeyPatch.context() as patch:
            # The module casts down to float32 in places, by these two names.
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            patch.setattr(torch, "float32", torch.float64)
            output = mixer(hidden)[0].numpy()
    weights = {name: value.detach().numpy() for name, value in mixer.named_parameters()}
    run = run_mixer(
        weights,
        hidden[0].numpy(),
        groups=config.n_groups,
        epsilon=config.layer_norm_epsilon,
        limits=tuple(config.time_step_limit),
    )
    return run, output


def test_the_twin_is_the_module(both: tuple[MixerRun, np.ndarray[Any, Any]]) -> None:
    run, output = both
    assert output.dtype == np.float64
    assert np.abs(output).max() > 0.1
    assert np.abs(run.output - output).max() < 1e-10


@pytest.mark.parametrize("query", [0, 1, 2, 9, LENGTH - 1])
def test_the_decomposition_is_exact(
    both: tuple[MixerRun, np.ndarray[Any, Any]], query: int
) -> None:
    run, _ = both
    parts = run.contributions(query)
    assert np.abs(parts.sum(0) + run.bias_part(query) - run.output[query]).max() < 1e-10
    assert not parts[query + 1 :].any()


def test_alpha_and_the_skip_give_what_the_recurrence_gives(
    both: tuple[MixerRun, np.ndarray[Any, Any]],
) -> None:
    run, output = both
    x = run.x.reshape(LENGTH, len(run.A), -1)
    y = np.einsum("hts,shp->thp", run.alpha, x) + run.D[:, None] * x
    gated = y.reshape(LENGTH, -1) * run.gate / (1 + np.exp(-run.gate)) * run.norm_scale
    assert np.abs(gated @ run.out_weight.T + run.out_bias - output).max() < 1e-10
