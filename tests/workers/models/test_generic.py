"""Transformers by the generic adapter: taken where the self-check passes, refused where not."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from catalogue.locate import locate
from schemas.names import Dtype, Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.settings import ModelSettings, Settings
from tests.tiny_architectures import saver
from tests.tiny_models import VOCABULARY
from workers.mixers.softmax import SoftmaxTrace
from workers.models.loading import LoadedModel, load
from workers.traces import TraceRequest
from workers.tracing import trace

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
# What each does otherwise than the architectures that have a row in `tiny_architectures`.
TAKEN: dict[str, dict[str, Any]] = {
    "Phi": {},  # rotates a part of each head, attention beside the MLP
    "Cohere": {"logit_scale": 0.3},  # scales its logits
    "Olmo2": {},  # norms of queries and keys over all heads
    "Starcoder2": {"num_key_value_heads": 2, "sliding_window": 7},
    "Gemma3Text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "GPTNeoX": {"use_parallel_residual": False},
    # Sinks, and a window in every other layer.
    "GptOss": {
        **{"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
        **{"num_local_experts": 3, "num_experts_per_tok": 2},
    },
}
# Its function does the same in another way: the self-check would repeat a mistake of ours.
WITH_CAP_OR_SINKS = {
    "GptOss": TAKEN["GptOss"],
    "Gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
}


def _load(root: Path, architecture: str, **sizes: Any) -> LoadedModel:
    saver(architecture, **sizes)(root / "model")
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings)


@pytest.mark.parametrize("architecture", TAKEN)
def test_one_that_attends_in_a_known_way_is_read(architecture: str, tmp_path: Path) -> None:
    loaded = _load(tmp_path, architecture, **(SIZES | TAKEN[architecture]))
    assert {layer.mixer for layer in loaded.description.layers} == {Mixer.SOFTMAX}
    [text] = trace(loaded, [TraceRequest(tuple(range(1, 20)))], {0, 1}, {0, 1})
    for layer in (0, 1):
        found = text.mixers[layer]
        assert isinstance(found, SoftmaxTrace)
        assert float(found.summary().reconstruction_error) < 1e-5


@pytest.mark.parametrize("architecture", WITH_CAP_OR_SINKS)
def test_a_cap_and_sinks_are_what_the_library_computes(architecture: str, tmp_path: Path) -> None:
    model = _load(tmp_path, architecture, **(SIZES | WITH_CAP_OR_SINKS[architecture])).model
    eager = type(model).from_pretrained(tmp_path / "model", attn_implementation="eager")
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        ours, theirs = (found(input_ids=ids).logits for found in (model, eager))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_one_that_attends_by_itself_is_refused(tmp_path: Path) -> None:
    """Bloom adds a slope to its scores and calls no function of the registry."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 48, "n_layer": 2, "n_head": 6}
    with pytest.raises(ProblemError) as refused:
        _load(tmp_path, "Bloom", **sizes)
    assert refused.value.kind is ProblemType.UNSUPPORTED_ARCHITECTURE
    assert "is called with more than is known here" in str(refused.value)


def test_one_with_functions_of_its_own_is_refused(tmp_path: Path) -> None:
    """Falcon looks its attention up in a list of its own."""
    with pytest.raises(ProblemError, match="list of functions of its own") as refused:
        _load(tmp_path, "Falcon", **SIZES)
    assert refused.value.kind is ProblemType.UNSUPPORTED_ARCHITECTURE


def test_gpt_neo_is_seen_to_attend_and_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 48, "num_layers": 2, "num_heads": 6}
    with pytest.raises(ProblemError) as refused:
        _load(tmp_path, "GPTNeo", **sizes, attention_types=[[["global", "local"], 1]])
    assert refused.value.kind is ProblemType.UNSUPPORTED_ARCHITECTURE


def test_one_whose_attention_is_not_what_is_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own attention, its output made 1% larger than its heads say."""
    plain = transformers.models.llama.modeling_llama.LlamaAttention.forward

    def louder(self: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = plain(self, *args, **kwargs)
        return 1.01 * output, weights

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaAttention, "forward", louder)
    with pytest.raises(ProblemError, match=r"reconstruction error 0\.0099") as refused:
        _load(tmp_path, "Llama", **SIZES)
    assert refused.value.kind is ProblemType.UNSUPPORTED_ARCHITECTURE


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8}),  # caps its logits
        ("Cohere", {"logit_scale": 0.3}),
    ],
)
def test_capped_and_scaled_logits_are_known_in_half_precision(
    architecture: str, more: dict[str, Any], tmp_path: Path
) -> None:
    saver(architecture, **(SIZES | more))(tmp_path / "model")
    half = (("model", ModelSettings(dtype=Dtype.BFLOAT16)),)
    settings = Settings(model_dir=tmp_path, device="cpu", models=half)
    assert load(locate("model", settings), settings).model.dtype is torch.bfloat16
