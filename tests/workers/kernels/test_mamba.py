"""Whole models of the S6 family with the compiled convolution and scan, and with their own."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    ZambaConfig,
    ZambaForCausalLM,
)

from workers.kernels import mamba

MIXER = {"vocab_size": 40, "hidden_size": 24, "state_size": 6, "time_step_rank": 3}
HYBRID = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mamba_d_state": 6,
    "mamba_dt_rank": 3,
    "max_position_embeddings": 128,
}
MODELS: dict[str, Any] = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(**MIXER, num_hidden_layers=3)),
    "falcon_mamba": lambda: FalconMambaForCausalLM(FalconMambaConfig(**MIXER, num_hidden_layers=3)),
    "jamba": lambda: JambaForCausalLM(
        JambaConfig(
            **HYBRID,
            num_hidden_layers=3,
            attn_layer_period=3,
            attn_layer_offset=1,
            # Its experts take no float64.
            num_experts=1,
        )
    ),
    "zamba": lambda: ZambaForCausalLM(
        ZambaConfig(
            **HYBRID,
            num_hidden_layers=3,
            layers_block_type=["hybrid", "linear_attention", "hybrid"],
            n_mamba_heads=2,
        )
    ),
}
# S6 layers, and the scans of each.
CALLS = {"mamba": (3, 1), "falcon_mamba": (3, 1), "jamba": (2, 1), "zamba": (3, 2)}


def assert_close(actual: Tensor, expected: Tensor, relative: float) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= relative * float(expected.abs().max())


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Any:
    torch.manual_seed(0)
    # Models loaded by other tests leave the functions installed.
    mamba.uninstall()
    return MODELS[name]().eval()


def logits_and_gradient(model: Any) -> tuple[Tensor, Tensor]:
    ids = torch.arange(2 * 70).reshape(2, 70) % 40
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False).logits
    torch.autograd.backward(logits[:, -1, 7].sum())
    assert embeddings.grad is not None
    return logits.detach(), embeddings.grad


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_says_the_same_with_the_compiled_functions(model: Any, trained: bool) -> None:
    model.train(trained).requires_grad_(trained)
    expected = logits_and_gradient(model)
    weights_expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with mamba.installed():
        actual = logits_and_gradient(model)
    weights = [p.grad for p in model.parameters() if p.grad is not None]
    # Three layers of float32 rounding, in another order of sums.
    for found, wanted in zip([*actual, *weights], [*expected, *weights_expected], strict=True):
        assert_close(found, wanted, 2e-5)


def test_generation_with_a_cache_says_the_same(model: Any) -> None:
    ids = torch.arange(1, 10)[None]
    plain = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    with mamba.installed():
        cached = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
    assert torch.equal(plain, cached)


def test_install_is_used_idempotent_and_undone(
    name: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for function in ("selective_scan", "causal_conv"):
        compiled = getattr(mamba, function)

        def counted(
            *args: object, name: str = function, compiled: Any = compiled, **kwargs: object
        ) -> object:
            calls.append(name)
            return compiled(*args, **kwargs)

        monkeypatch.setattr(mamba, function, counted)
    ids = torch.ones(1, 4, dtype=torch.long)
    modeling: Any = importlib.import_module(type(model).__module__)
    original = modeling.mamba_selective_scan
    layers, heads = CALLS[name]
    scans = ["selective_scan"] * heads
    try:
        mamba.install()
        mamba.install()
        model(ids)
        assert calls == scans * layers, "trained weights belong to transformers' own conv"
        calls.clear()
        model.requires_grad_(False)(ids)
        assert calls == ["causal_conv", *scans] * layers
        calls.clear()
        model.double()(ids)
        assert not calls, "float64 belongs to transformers' own functions"
    finally:
        mamba.uninstall()
    assert modeling.mamba_selective_scan is original
    with mamba.installed():
        assert modeling.mamba_selective_scan is not original
    assert modeling.mamba_selective_scan is original
