import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from catalogue.cached import tokeniser
from catalogue.config import Config
from catalogue.locate import Location
from catalogue.tokeniser import Tokeniser
from schemas.problem import ProblemError, ProblemType
from tests.catalogue.models import save_model, word_tokenizer


@pytest.fixture
def words(tmp_path: Path) -> Tokeniser:
    return Tokeniser.load(save_model(tmp_path))


@pytest.fixture(scope="module")
def bytes_level(tmp_path_factory: pytest.TempPathFactory) -> Tokeniser:
    """A byte-level BPE like GPT-2's and Mamba's, trained on one sentence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["We saw Paris. Paris, Paris and Paris again"] * 5, trainer)
    return Tokeniser.load(save_model(tmp_path_factory.mktemp("bpe"), tokenizer=tokenizer))


def test_tokens_cover_exactly_what_they_say(words: Tokeniser) -> None:
    text = "apple  7\tstrange river"
    tokens = words.encode(text)
    assert [token.text for token in tokens] == ["apple", "7", "strange", "river"]
    assert all(text[token.start : token.end] == token.text for token in tokens)
    assert [token.id for token in tokens] == [1, 6, 0, 2]
    assert words.count(text) == 4


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(max_length=2)
    tokenizer.enable_padding(length=8)
    loaded = Tokeniser.load(save_model(tmp_path, tokenizer=tokenizer))
    assert loaded.count("apple river stone 7") == 4
    assert loaded.count("apple") == 1


def test_a_token_that_covers_nothing_shows_its_own_string(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens(["<s>"])
    beginning = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $0", None, [("<s>", beginning)])
    loaded = Tokeniser.load(save_model(tmp_path, tokenizer=tokenizer))
    first, second = loaded.encode("river")
    assert (first.id, first.text, first.start, first.end) == (beginning, "<s>", 0, 0)
    assert second.text == "river"
    assert loaded.single_token("river") == second.id


def test_single_token_is_exact(words: Tokeniser, bytes_level: Tokeniser) -> None:
    assert words.single_token("7") == 6
    paris = bytes_level.single_token(" Paris")
    assert bytes_level.string(paris) == " Paris"
    with pytest.raises(ValueError, match=r"is 2 tokens.*'apple', '7'"):
        words.single_token("apple 7")
    with pytest.raises(ValueError, match="not in this model's vocabulary"):
        words.single_token("strange")
    with pytest.raises(ValueError, match="is 0 tokens"):
        words.single_token("  ")


def test_an_unknown_word_of_a_unigram_tokenizer_is_seen(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    loaded = Tokeniser.load(save_model(tmp_path, tokenizer=tokenizer))
    assert loaded.string(loaded.single_token("a")) == " a"
    with pytest.raises(ValueError):
        loaded.single_token("q")


def test_a_word_without_a_token_or_an_unknown_one_is_a_value_error(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"apple": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    loaded = Tokeniser.load(save_model(tmp_path, tokenizer=tokenizer))
    assert loaded.count("apple apple") == 2
    for read in (loaded.count, loaded.encode, loaded.single_token):
        with pytest.raises(ValueError, match=r"tokenizer\.json refuses it"):
            read("strange")


@pytest.mark.parametrize("read", [Tokeniser.count, Tokeniser.single_token])
def test_other_threads_run_while_a_long_text_is_read(
    bytes_level: Tokeniser, read: Callable[[Tokeniser, str], object]
) -> None:
    ticks, is_read = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not is_read.wait(0.001):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    with suppress(ValueError):
        read(bytes_level, "q" * 200_000)
    is_read.set()
    ticker.join()
    assert ticks > 5


def test_strings_are_readable_and_never_replacement_characters(bytes_level: Tokeniser) -> None:
    emoji = bytes_level.encode("\N{SNAKE}")
    assert len(emoji) > 1
    assert all(token.text == "\N{SNAKE}" for token in emoji)
    assert all("\ufffd" not in bytes_level.string(token.id) for token in emoji)
    assert bytes_level.string(bytes_level.single_token("<|end|>")) == "<|end|>"
    assert bytes_level.string(10**6) == "<1000000>"


def test_a_missing_or_broken_file_is_a_typed_problem(tmp_path: Path) -> None:
    for content in (None, b"", b"{}", b"\xff", b"[1]"):
        if content is not None:
            (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(ProblemError, match=r"tokenizer\.json") as caught:
            Tokeniser.load(tmp_path)
        assert caught.value.kind is ProblemType.MODEL_INVALID


def test_what_the_vocabulary_lacks_is_told(words: Tokeniser) -> None:
    found = words.encode("apple pear 3")
    assert [token.unknown for token in found] == [False, True, False]
    assert found[1].text == "pear"


def test_a_panic_of_the_tokenizer_is_a_value_error(tmp_path: Path) -> None:
    """An expression that backtracks without end is a panic, which is no Exception."""
    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.Replace(Regex("(a+)+$"), "b")
    save_model(tmp_path, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="refuses it"):
        Tokeniser.load(tmp_path).count("a" * 60 + "!")


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(ProblemError, match="no file"):
        Tokeniser.load(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ProblemError, match="no file"):
        Config.read(Location("m", "directory", tmp_path))


def test_the_remembered_tokeniser_follows_the_file(tmp_path: Path) -> None:
    save_model(tmp_path)
    first = tokeniser(tmp_path)
    assert tokeniser(tmp_path) is first
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["strange"])
    save_model(tmp_path, tokenizer=tokenizer)
    os.utime(tmp_path / "tokenizer.json", ns=(1, 1))
    assert tokeniser(tmp_path).single_token("strange") == 7
