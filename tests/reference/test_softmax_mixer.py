"""The softmax twin against transformers' own attention of GPT-2, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from tests.reference.softmax_mixer import AttentionRun, run_attention

LENGTH, HIDDEN, HEADS = 17, 24, 3


@pytest.fixture(scope="module")
def both() -> tuple[AttentionRun, np.ndarray[Any, Any]]:
    """The twin's run, and the output (l, m) of the module whose random weights it has."""
    config = GPT2Config(n_embd=HIDDEN, n_head=HEADS, attn_pdrop=0.0, resid_pdrop=0.0)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    module = GPT2Attention(config, layer_idx=0).double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn_like(weight) * 0.5)
        hidden = torch.randn(1, LENGTH, HIDDEN, dtype=torch.float64)
        output = module(hidden)[0][0].numpy()
        projected = module.c_attn(hidden)[0].numpy()
    q, k, v = projected.reshape(LENGTH, 3, HEADS, -1).transpose(1, 2, 0, 3)
    run = run_attention(
        q,
        k,
        v,
        scaling=(HIDDEN // HEADS) ** -0.5,
        out_weight=module.c_proj.weight.detach().numpy().T,
        out_bias=module.c_proj.bias.detach().numpy(),
    )
    return run, output


def test_the_twin_is_the_module(both: tuple[AttentionRun, np.ndarray[Any, Any]]) -> None:
    run, output = both
    assert output.dtype == np.float64
    assert np.abs(output).max() > 0.1
    assert np.abs(run.output - output).max() < 1e-10


def test_alpha_is_causal_and_each_row_sums_to_one(
    both: tuple[AttentionRun, np.ndarray[Any, Any]],
) -> None:
    run, _ = both
    assert np.array_equal(run.alpha, np.tril(run.alpha))
    assert np.abs(run.alpha.sum(2) - 1).max() < 1e-12


@pytest.mark.parametrize("query", [0, 1, 9, LENGTH - 1])
def test_the_decomposition_is_exact(
    both: tuple[AttentionRun, np.ndarray[Any, Any]], query: int
) -> None:
    run, _ = both
    parts = run.contributions(query)
    assert np.abs(parts.sum(0) + run.bias_part(query) - run.output[query]).max() < 1e-10
    assert not parts[query + 1 :].any()
