"""Models whose rotary frequencies depend on the longest text: a text's numbers are its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.settings import Settings
from tests.tiny_architectures import saver
from tests.tiny_models import VOCABULARY
from workers.models import rotary
from workers.models.loading import LoadedModel, load
from workers.traces import TraceRequest
from workers.tracing import trace

# Texts longer than these 16 tokens are read with other frequencies.
SHORT, LONG = tuple(range(1, 11)), tuple(1 + index * 7 % 39 for index in range(40))
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 5.0, 6.0, 7.0],
    "original_max_position_embeddings": 16,
    "factor": 16.0,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 16}
ROPES = {
    "Llama longrope": ("Llama", LONGROPE),
    "Phi3": ("Phi3", LONGROPE),
    "Llama dynamic": ("Llama", DYNAMIC),
}


def _loaded(root: Path, architecture: str, rope: dict[str, Any]) -> LoadedModel:
    saver(
        architecture,
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=16 if rope is DYNAMIC else 256,
        # Phi-3 keeps it here as well.
        original_max_position_embeddings=16,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )(root / "model")
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings)


def _logits(loaded: LoadedModel, texts: list[tuple[int, ...]]) -> list[Tensor]:
    return [found.logits for found in trace(loaded, [TraceRequest(ids) for ids in texts], {0}, {0})]


@pytest.mark.parametrize("name", ROPES)
def test_a_text_does_not_depend_on_what_is_read_beside_or_before_it(
    name: str, tmp_path: Path
) -> None:
    loaded = _loaded(tmp_path, *ROPES[name])
    assert rotary.stretching(loaded.model)
    [alone] = _logits(loaded, [SHORT])
    [middle] = _logits(loaded, [LONG[:25]])
    for texts in ([SHORT, LONG], [LONG[:25], LONG], [SHORT, LONG[:25]]):
        found = dict(zip(texts, _logits(loaded, texts), strict=True))
        for ids, expected in ((SHORT, alone), (LONG[:25], middle)):
            if ids in found:
                torch.testing.assert_close(found[ids], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ROPES)
def test_a_longer_text_is_read_as_the_library_reads_it(name: str, tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, *ROPES[name])
    [ours] = _logits(loaded, [LONG])
    library = type(loaded.model).from_pretrained(tmp_path / "model")
    with torch.no_grad():
        short = library(input_ids=torch.tensor([LONG[:10]]), use_cache=False).logits[0, -1]
        every = library(input_ids=torch.tensor([LONG]), use_cache=False).logits[0]
    torch.testing.assert_close(ours, every[-1], rtol=1e-4, atol=1e-4)
    # The frequencies do change, or nothing was tested.
    assert float((short - every[9]).abs().max()) > 1e-3


def test_other_models_pass_together(tmp_path: Path) -> None:
    assert rotary.stretching(_loaded(tmp_path, "Llama", {"rope_type": "default"}).model) == []
