"""The bundled English model: its size, its tokenizer, and what its card says it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaForCausalLM

from training.english_check import PROMPTS, bits_by_book, bits_per_byte, continuations
from workers.kernels import mamba

BUNDLED = Path(__file__).parents[2] / "catalogue" / "pocket" / "english-mamba"
CARD = (BUNDLED / "README.md").read_text()
# Of Ruth, which was held out.
VERSES = (
    "And Ruth said, Intreat me not to leave thee, or to return from following after thee: for "
    "whither thou goest, I will go; and where thou lodgest, I will lodge: thy people shall be my "
    "people, and thy God my God:\n"
    "Where thou diest, will I die, and there will I be buried: the LORD do so to me, and more "
    "also, if ought but death part thee and me.\n"
    "When she saw that she was stedfastly minded to go with her, then she left speaking unto her.\n"
)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))


def test_it_is_small_and_stored_in_half_precision(model: MambaForCausalLM) -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 6_000_000
    assert model.num_parameters() <= 3_000_000
    assert f"{model.num_parameters():,} parameters" in CARD
    weights = load_file(BUNDLED / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


@pytest.mark.parametrize(
    "text",
    [VERSES, "", " two  spaces\t\r\n", "na\u00efve \u4f60\u597d \U0001f642", "\x00<|endoftext|>"],
)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    assert AutoTokenizer.from_pretrained(BUNDLED)(text)["input_ids"] == encoded.ids
    covered = {i for start, end in encoded.offsets for i in range(start, end)}
    assert covered == set(range(len(text)))


def test_it_reads_held_out_verses(model: MambaForCausalLM, tokenizer: Tokenizer) -> None:
    with mamba.installed():
        bits = bits_by_book(model, tokenizer, {"Ruth": VERSES})
    assert bits_per_byte(bits, {"Ruth": VERSES}) < 2.0


def test_its_card_compares_it_with_simpler_models() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (.+?) \|$", CARD, re.MULTILINE)
    assert len(rows) == 5
    ours, *others = (float(bits) for bits, _ in rows)
    assert ours < min(others)
    assert "5-gram" in rows[1][1]


def test_it_says_what_its_card_says(model: MambaForCausalLM, tokenizer: Tokenizer) -> None:
    with mamba.installed():
        said = continuations(model, tokenizer)
    assert [one.prompt for one in said] == list(PROMPTS)
    for one in said:
        stated = CARD[CARD.index(f"`{one.prompt}`") :]
        top, text = re.findall(r"^- (.+)$", stated, re.MULTILINE)[:2]
        shares = [float(share) for share in re.findall(r"` ([\d.]+)", top)]
        # Another processor may round a share to the next hundredth, and a close call the other way.
        assert shares == pytest.approx([share for _, share in one.top], abs=0.011)
        assert one.text[:10].replace("\n", "\\n") == text.strip("`")[:10]
