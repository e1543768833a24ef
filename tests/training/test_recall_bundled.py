"""The bundled recall models: what their cards say, measured again."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2LMHeadModel,
    Mamba2ForCausalLM,
    MambaForCausalLM,
)

from training.recall_check import accuracy, answer_probability, contribution_peaks
from training.recall_data import HELD_OUT_SEED, VOCABULARY, recall_prompts, recall_tokenizer

POCKET = Path(__file__).parents[2] / "catalogue" / "pocket"
CLASSES: dict[str, Any] = {
    "mamba": MambaForCausalLM,
    "mamba2": Mamba2ForCausalLM,
    "gpt2": GPT2LMHeadModel,
}
EXAMPLE = "apple 3 river 7 stone 1 river"


@dataclass(frozen=True)
class Bundled:
    """One bundled model with its tokenizer and card."""

    architecture: str
    model: Any
    tokenizer: Tokenizer
    card: str

    def stated(self, pattern: str) -> float:
        found = re.search(pattern, self.card)
        assert found is not None
        return float(found[1])


@pytest.fixture(scope="module", params=CLASSES)
def bundled(request: pytest.FixtureRequest) -> Bundled:
    directory = POCKET / f"recall-{request.param}"
    return Bundled(
        request.param,
        AutoModelForCausalLM.from_pretrained(directory).eval(),
        Tokenizer.from_file(str(directory / "tokenizer.json")),
        (directory / "README.md").read_text(),
    )


def test_it_is_small_and_float32(bundled: Bundled) -> None:
    assert isinstance(bundled.model, CLASSES[bundled.architecture])
    assert bundled.model.config.num_hidden_layers == 2
    assert bundled.model.config.hidden_size == 64
    assert bundled.model.config.vocab_size == len(VOCABULARY)
    assert {p.dtype for p in bundled.model.parameters()} == {torch.float32}


def test_its_tokenizer_is_the_scripts(bundled: Bundled) -> None:
    automatic = AutoTokenizer.from_pretrained(POCKET / f"recall-{bundled.architecture}")
    for text in (EXAMPLE, "Stone 0 unheard 9", ""):
        encoded = bundled.tokenizer.encode(text)
        assert encoded.ids == recall_tokenizer().encode(text).ids == automatic(text)["input_ids"]
    assert automatic.unk_token == "<unk>"
    assert automatic.pad_token == "<pad>"
    assert bundled.tokenizer.decode(bundled.tokenizer.encode(EXAMPLE).ids) == EXAMPLE


def test_it_answers_as_its_card_says(bundled: Bundled) -> None:
    right = accuracy(
        bundled.model, bundled.tokenizer, recall_prompts(HELD_OUT_SEED, 2000, range(2, 9))
    )
    assert right > 0.98
    # Another processor may round a few close calls the other way.
    assert bundled.stated(r"answer in ([\d.]+)% of 2,000") == pytest.approx(100 * right, abs=0.3)
    said = answer_probability(bundled.model, bundled.tokenizer, EXAMPLE)["7"]
    assert bundled.stated(r"\(probability ([\d.]+)\)") == pytest.approx(said, abs=0.01)


@pytest.mark.parametrize("pairs", [1, 5, 8, 9, 12])
def test_its_card_states_the_accuracy_by_pairs(bundled: Bundled, pairs: int) -> None:
    prompts = recall_prompts(HELD_OUT_SEED, 1000, pairs)
    right = accuracy(bundled.model, bundled.tokenizer, prompts)
    assert bundled.stated(rf"\| {pairs} \| ([\d.]+)% \|") == pytest.approx(100 * right, abs=0.5)


def test_its_card_states_which_layer_reads_the_answer(bundled: Bundled) -> None:
    prompts = recall_prompts(HELD_OUT_SEED, 200, range(2, 9))
    peaks = contribution_peaks(bundled.model, bundled.tokenizer, prompts)
    assert max(peaks) >= 0.95
    _, reads = bundled.card.split("## What it reads")
    for layer, share in enumerate(peaks):
        stated = re.search(rf"\| {layer} \| ([\d.]+)% \|", reads)
        assert stated is not None
        assert float(stated[1]) == pytest.approx(100 * share, abs=1)
