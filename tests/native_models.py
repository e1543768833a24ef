"""Tiny random models of transformers, saved in mamba_ssm's own format."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from tests.tiny_models import word_tokenizer

CHECKPOINT = "pytorch_model.bin"
# 37 tokens, so that padding to 40 and to 48 both count.
MAMBA = {
    "d_model": 16,
    "n_layer": 2,
    "vocab_size": 37,
    "ssm_cfg": {"d_state": 4, "d_conv": 3, "dt_rank": 3},
    "rms_norm": True,
    "residual_in_fp32": True,
    "fused_add_norm": True,
    "pad_vocab_size_multiple": 8,
}
MAMBA2 = {
    "d_model": 16,
    "d_intermediate": 0,
    "n_layer": 2,
    "vocab_size": 37,
    "ssm_cfg": {
        "layer": "Mamba2",
        "d_state": 4,
        "headdim": 8,
        "ngroups": 2,
        "dt_limit": [0.1, 0.9],
        "chunk_size": 8,
    },
    "attn_layer_idx": [],
    "attn_cfg": {},
    "rms_norm": True,
    "residual_in_fp32": True,
    "fused_add_norm": True,
    "pad_vocab_size_multiple": 16,
    "tie_embeddings": True,
}


def mamba(*, tied: bool = True) -> Any:
    """What MAMBA describes, with transformers' class: 40 rows."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "conv_kernel": 3}
    config = MambaConfig(vocab_size=40, time_step_rank=3, tie_word_embeddings=tied, **sizes)
    return _random(MambaForCausalLM, config)


def mamba2() -> Any:
    """What MAMBA2 describes, with transformers' class: 48 rows, 32 channels, 4 heads, 2 groups."""
    config = Mamba2Config(
        vocab_size=48,
        hidden_size=16,
        num_hidden_layers=2,
        state_size=4,
        num_heads=4,
        head_dim=8,
        n_groups=2,
        chunk_size=8,
        time_step_limit=(0.1, 0.9),
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=0,
    )
    return _random(Mamba2ForCausalLM, config)


def native_state(model: Any) -> dict[str, torch.Tensor]:
    """The model's tensors as mamba_ssm's `state_dict()` lists them, a tied head among them."""
    layers = {
        name: tensor.detach()
        for name, tensor in model.state_dict().items()
        if name.startswith("backbone.layers.")
    }
    return {
        "backbone.embedding.weight": model.backbone.embeddings.weight.detach(),
        **layers,
        "backbone.norm_f.weight": model.backbone.norm_f.weight.detach(),
        "lm_head.weight": model.lm_head.weight.detach(),
    }


def save_native(
    directory: Path, config: dict[str, Any], state: Any, *, tokeniser: bool = True
) -> Path:
    """A model directory with config.json, pytorch_model.bin and, if wanted, tokenizer.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    torch.save(state, directory / CHECKPOINT)
    if tokeniser:
        word_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def _random(architecture: Any, config: Any) -> Any:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = architecture(config).eval()
        # Fresh models have zero biases, D = 1 and no spread in A: noise makes every term count.
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model
