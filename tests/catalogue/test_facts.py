"""Which facts are refused, and where the fault is pointed to."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from catalogue.admission import admit
from catalogue.facts import path_bytes
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.catalogue.models import GPT2, described, save_model, word_tokenizer

FACT = {"prompt": "apple 3 river", "answer": " 7"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_model(tmp_path / "tiny")
    save_model(tmp_path / "short", GPT2)
    return Settings(model_dir=tmp_path, max_total_tokens=200)


def faults(settings: Settings, *facts: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    """(pointer, detail) of everything that is wrong with a request for these facts."""
    section = {"facts": list(facts), "steps": fields.pop("steps", 5)}
    asked = {"models": ["tiny"], "texts": ["apple"], "knowledge_neurons": section} | fields
    try:
        admit(JobRequest.model_validate(asked), settings)
    except ProblemError as error:
        assert error.kind is ProblemType.INVALID_REQUEST
        return [(entry.pointer, entry.detail) for entry in error.problem.errors]
    return []


def test_fitting_facts_are_admitted(settings: Settings) -> None:
    with_others = FACT | {"paraphrases": ["river 7 apple", "stone"], "answer": " 7 apple"}
    assert faults(settings, FACT, with_others) == []


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"answer": "7"}, "/answer", "give the space before it, ' 7'"),
    ({"answer": " "}, "/answer", "change the answer"),
    ({"answer": " strange"}, "/answer", "no token for a part of the answer"),
    ({"answer": " 7 strange"}, "/answer", "no token for a part of the answer"),
    ({"paraphrases": ["apple 3 river"]}, "/paraphrases/0", "already"),
    ({"paraphrases": ["apple", "stone", "apple"]}, "/paraphrases/2", "already"),
]


@pytest.mark.parametrize(("changes", "at", "words"), CASES)
def test_what_does_not_fit_is_named_with_its_mend(
    settings: Settings, changes: dict[str, Any], at: str, words: str
) -> None:
    found = faults(settings, FACT, FACT | changes)
    assert (f"/knowledge_neurons/facts/1{at}", True) in [(p, words in d) for p, d in found]
    assert all(pointer.startswith("/knowledge_neurons/facts/1/") for pointer, _ in found)


def test_the_longest_text_holds_the_prompt_and_all_of_the_answer_that_is_read(
    settings: Settings,
) -> None:
    # Four positions: an answer's last token is not read.
    just = {"prompt": "7 7 7", "answer": " 7 7", "paraphrases": ["7 7", "3 7 7 7"]}
    [(pointer, detail)] = faults(settings, just, models=["short"])
    assert pointer == "/knowledge_neurons/facts/0/paraphrases/1"
    assert "5 tokens to read in `short`, which takes at most 4" in detail
    assert faults(settings, just) == []


def test_a_prompt_without_tokens_is_refused(settings: Settings, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.Replace("~", " ")
    save_model(tmp_path / "strips", tokenizer=tokenizer)
    [(pointer, detail)] = faults(settings, FACT | {"prompt": "~"}, models=["strips"])
    assert pointer == "/knowledge_neurons/facts/0/prompt"
    assert "no token" in detail


def test_the_prompts_tokens_times_the_steps_are_bounded(settings: Settings) -> None:
    facts = [FACT, FACT | {"paraphrases": ["apple"]}, FACT]
    assert faults(settings, *facts, steps=20) == []
    [(pointer, detail)] = faults(settings, *facts, steps=21)
    assert pointer == "/knowledge_neurons/facts"
    assert "10 tokens together in `tiny`, which pass 21 times each; 200" in detail


def test_every_model_is_asked(settings: Settings) -> None:
    found = faults(settings, FACT | {"answer": " strange"}, models=["tiny", "short"])
    assert [detail.split()[0] for _, detail in found] == ["`tiny`", "`short`"]


def test_lower_blocks_and_more_rows_take_more() -> None:
    model = described()
    by_layer = [path_bytes(model, layer, 1536, 10).of(4, 4) for layer in (24, 23, 12, 0)]
    assert by_layer == sorted(by_layer)
    assert len(set(by_layer)) == 4
    taken = path_bytes(model, 0, 1536, 10)
    assert taken.of(8, 8) > 1.9 * taken.of(4, 4)
    # A row is told at least its logits in float64.
    assert taken.of(4, 5) - taken.of(4, 4) >= 8 * model.vocab_size
