"""The recall prompts, the bundled recall-mamba, and a few steps of each recall model's training."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from training.recall import (
    save,
    train,
    training_batch,
    training_step,
)
from training.recall_data import (
    DIGITS,
    NOUNS,
    VOCABULARY,
    recall_prompts,
    recall_tokenizer,
)
from training.recall_models import ARCHITECTURES, new_model
from training.recall_recipe import Recipe
from workers.kernels import mamba

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "catalogue" / "pocket" / "recall-mamba"
CARD = BUNDLED / "README.md"
EXAMPLE = "apple 3 river 7 stone 1 river"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), pairs=st.integers(1, 26))
def test_a_prompt_says_where_its_answer_is(seed: int, pairs: int) -> None:
    (prompt,) = recall_prompts(seed, 1, pairs)
    words = prompt.text.split(" ")
    assert prompt.pairs == pairs
    assert len(words) == 2 * pairs + 1
    assert len(set(words[:-1:2])) == pairs
    assert set(words[::2]) <= set(NOUNS)
    assert set(words[1::2]) <= set(DIGITS)
    assert words[prompt.answer_position] == prompt.answer
    assert words[prompt.key_position] == words[-1]
    assert prompt.answer_position == prompt.key_position + 1


def test_prompts_are_a_function_of_the_seed() -> None:
    assert recall_prompts(3, 20, range(2, 9)) == recall_prompts(3, 20, range(2, 9))
    assert recall_prompts(3, 20, 5) != recall_prompts(4, 20, 5)
    assert recall_prompts(3, 20, 5)[:7] == recall_prompts(3, 7, 5)
    assert {p.pairs for p in recall_prompts(0, 200, range(2, 9))} == set(range(2, 9))


@pytest.mark.parametrize("pairs", [0, 27, (), (3, 0)])
def test_impossible_numbers_of_pairs_are_refused(pairs: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give numbers from 1 to 26"):
        recall_prompts(0, 1, pairs)


def test_prompts_need_no_torch() -> None:
    code = "import training.recall_data, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_the_vocabulary_is_26_nouns_and_ten_digits() -> None:
    assert len(set(NOUNS)) == 26
    assert {"apple", "river", "stone"} <= set(NOUNS)
    assert len(set(VOCABULARY)) == 38


def test_tokens_are_words_with_their_offsets() -> None:
    encoded = recall_tokenizer().encode("Apple 3  zebra,7")
    assert encoded.tokens == ["apple", "3", "<unk>", "<unk>", "7"]
    assert encoded.offsets == [(0, 5), (6, 7), (9, 14), (14, 15), (15, 16)]


def test_training_sequences_repeat_their_own_pairs() -> None:
    ids = training_batch(torch.Generator().manual_seed(0), 50, pairs=4, queries=3)
    words = [[VOCABULARY[i] for i in row] for row in ids.tolist()]
    for row in words:
        told = dict(zip(row[:8:2], row[1:8:2], strict=True))
        assert len(told) == 4
        assert [told[noun] for noun in row[8::2]] == row[9::2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_lower_the_loss(architecture: str) -> None:
    model = new_model(architecture, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    ids = training_batch(torch.Generator().manual_seed(0), 32, pairs=2, queries=2)
    with mamba.installed():
        losses = [training_step(model, optimizer, ids, 2)[0] for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_runs_from_recipe_to_directory(architecture: str, tmp_path: Path) -> None:
    recipe = Recipe(batch=8, last_pairs=3, stage_steps=2, final_steps=2)
    model = new_model(architecture, 1)
    before = model.get_input_embeddings().weight.detach().clone()
    assert train(model, recipe, seed=1) == 2 + 2 + 2
    save(model, recall_tokenizer(), tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert not torch.equal(again.get_input_embeddings().weight, before)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
