"""The English text's file format, the tokenizer, the measures, and a few steps of training."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import MambaForCausalLM

from training import english_check, english_text
from training.english import STORED, rounded, save
from training.english_check import bits_by_book, bits_per_byte, continuations
from training.english_recipe import Recipe
from training.english_text import TextUnavailableError, books, printed
from training.english_tokenizer import english_tokenizer
from training.english_training import learning_rate_share, new_model, train, windows

VERSES = (
    "Ge1:1 In the beginning God created the heaven and the earth.\n"
    "1Jn5:21 Little children, keep yourselves from idols. Amen.\n"
    "Ge1:2 And the earth was without form, and void;\n"
)
SMALL = Recipe(
    hidden_size=16, layers=2, state_size=4, batch=2, length=12, steps=6, warmup_steps=2,
    cooldown_steps=2,
)  # fmt: skip
TOKENS = torch.arange(300) % 17


def compressed(text: bytes) -> bytes:
    """A stream of compress(1) that refers back to nothing: a 9-bit code each byte."""
    bits = sum(byte << (9 * index) for index, byte in enumerate(text))
    return b"\x1f\x9d\x90" + bits.to_bytes(math.ceil(9 * len(text) / 8), "little")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return english_tokenizer(["And God said, Let there be light: and there was light.\n"] * 3)


def test_verses_are_gathered_by_book_without_their_numbers() -> None:
    assert books(VERSES) == {
        "Ge": "In the beginning God created the heaven and the earth.\n"
        "And the earth was without form, and void;\n",
        "1Jn": "Little children, keep yourselves from idols. Amen.\n",
    }


def test_a_line_that_is_no_verse_is_refused() -> None:
    with pytest.raises(TextUnavailableError, match="no verse: 'Genesis'"):
        books("Genesis\n" + VERSES)


def test_the_data_file_is_a_compressed_stream_after_a_header() -> None:
    data = b"EC02Compressed Data File\0\0" + compressed(b"A title.\n" + VERSES[:100].encode())
    assert printed(data) == "A title.\n" + VERSES[:100]


def test_another_file_is_refused() -> None:
    with pytest.raises(TextUnavailableError, match="no stream"):
        printed(b"EC02Compressed Data File")
    with pytest.raises(TextUnavailableError, match="gzip -dc` failed"):
        printed(compressed(b"some text")[:2])


def test_without_a_tool_the_script_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TextUnavailableError, match="`apt-get`, which fetches the text, is missing"):
        english_text.english_text()


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    covered = {i for start, end in encoded.offsets for i in range(start, end)}
    assert covered == set(range(len(text)))


def test_offsets_count_characters_and_take_the_space_before_a_word(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode("And God\u00e9 said")
    assert encoded.offsets == [(0, 3), (3, 7), (7, 8), (7, 8), (8, 13)]
    assert encoded.tokens[1] == "ĠGod"


def test_windows_are_a_function_of_seed_and_step() -> None:
    first = windows(TOKENS, SMALL, 3, 5)
    assert first.shape == (2, 13)
    assert torch.equal(first, windows(TOKENS, SMALL, 3, 5))
    assert not torch.equal(first, windows(TOKENS, SMALL, 3, 6))
    assert torch.equal((first[:, 1:] - first[:, :-1]) % 17, torch.ones(2, 12, dtype=torch.long))


def test_the_learning_rate_rises_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=100, warmup_steps=10, cooldown_steps=20)
    shares = [learning_rate_share(recipe, step) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert set(shares[9:81]) == {1.0}
    assert shares[90] == pytest.approx(0.5)
    assert shares[100] == pytest.approx(0)


def test_training_learns() -> None:
    model = new_model(replace(SMALL, steps=60, learning_rate=1e-2), 17, 0)
    trained = train(model, TOKENS, replace(SMALL, steps=60, learning_rate=1e-2), 0)
    assert trained.last_loss < 0.8 * math.log(17)


def test_a_resumed_run_is_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = new_model(SMALL, 17, 0), new_model(SMALL, 17, 0)
    train(whole, TOKENS, SMALL, 0)
    shorter = replace(SMALL, steps=3, cooldown_steps=0)
    train(broken, TOKENS, shorter, 0, tmp_path / "state")
    again = new_model(SMALL, 17, 1)
    train(again, TOKENS, SMALL, 0, tmp_path / "state")
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    train(new_model(SMALL, 17, 0), TOKENS, SMALL, 0, file)
    for recipe, seed in ((SMALL, 1), (replace(SMALL, batch=3), 0), (replace(SMALL, steps=9), 0)):
        with pytest.raises(ValueError, match="remove it"):
            train(new_model(SMALL, 17, 0), TOKENS, recipe, seed, file)


def test_every_token_is_scored_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    window, stride = 24, 8
    monkeypatch.setattr(english_check, "WINDOW", window)
    monkeypatch.setattr(english_check, "STRIDE", stride)
    model = new_model(SMALL, tokenizer.get_vocab_size(), 0).eval()
    text = "and there was light: God said\n" * 8
    ids = torch.tensor(tokenizer.encode(text).ids)
    assert len(ids) > window + stride
    expected = math.log2(tokenizer.get_vocab_size())
    for at in range(1, len(ids)):
        start = 0 if at < window else (at - window) // stride * stride + stride
        with torch.no_grad():
            logits = model(ids[None, start:at], use_cache=False).logits[0, -1]
        expected += float(functional.cross_entropy(logits, ids[at])) / math.log(2)
    bits = bits_by_book(model, tokenizer, {"a": text})
    assert bits["a"] == pytest.approx(expected, rel=1e-5)
    assert bits_per_byte(bits, {"a": text}) == pytest.approx(expected / len(text))


def test_what_is_saved_is_what_was_measured(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = rounded(new_model(SMALL, tokenizer.get_vocab_size(), 0).eval())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    said = continuations(model, tokenizer, ["And God"])
    save(model, tokenizer, tmp_path)
    again = MambaForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == STORED
    for name, weight in again.float().eval().state_dict().items():
        assert torch.equal(weight, before[name])
    reread = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert continuations(again, reread, ["And God"]) == said
