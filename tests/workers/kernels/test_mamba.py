"""A whole Mamba with the compiled convolution and scan against the same model with its own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM
from transformers.models.mamba import modeling_mamba

from workers.kernels import mamba


def assert_close(actual: Tensor, expected: Tensor, relative: float) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= relative * float(expected.abs().max())


@pytest.fixture
def model() -> MambaForCausalLM:
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=3, state_size=6, time_step_rank=3
    )
    # Models loaded by other tests leave the functions installed.
    mamba.uninstall()
    return MambaForCausalLM(config).eval()


def logits_and_gradient(model: MambaForCausalLM) -> tuple[Tensor, Tensor]:
    ids = torch.arange(2 * 70).reshape(2, 70) % 40
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False).logits
    torch.autograd.backward(logits[:, -1, 7].sum())
    assert embeddings.grad is not None
    return logits.detach(), embeddings.grad


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_says_the_same_with_the_compiled_functions(
    model: MambaForCausalLM, trained: bool
) -> None:
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


def test_generation_with_a_cache_says_the_same(model: MambaForCausalLM) -> None:
    ids = torch.arange(9)[None]
    plain = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    with mamba.installed():
        cached = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
    assert torch.equal(plain, cached)


def test_install_is_used_idempotent_and_undone(
    model: MambaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("selective_scan", "causal_conv"):
        compiled = getattr(mamba, name)

        def counted(
            *args: object, name: str = name, compiled: Any = compiled, **kwargs: object
        ) -> object:
            calls.append(name)
            return compiled(*args, **kwargs)

        monkeypatch.setattr(mamba, name, counted)
    ids = torch.zeros(1, 4, dtype=torch.long)
    original = modeling_mamba.mamba_selective_scan
    try:
        mamba.install()
        mamba.install()
        model(ids)
        assert calls == ["selective_scan"] * 3, "trained weights belong to transformers' own conv"
        model.requires_grad_(False)(ids)
        assert calls[3:] == ["causal_conv", "selective_scan"] * 3
        model.double()(ids)
        assert len(calls) == 9, "float64 belongs to transformers' own functions"
    finally:
        mamba.uninstall()
    assert modeling_mamba.mamba_selective_scan is original
    with mamba.installed():
        assert modeling_mamba.mamba_selective_scan is not original
    assert modeling_mamba.mamba_selective_scan is original
