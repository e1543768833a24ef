from pathlib import Path
from typing import Any

import pytest
from tokenizers import models, normalizers

from catalogue.admission import admit
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.catalogue.models import GPT2, save_model, word_tokenizer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_model(tmp_path / "tiny")
    save_model(tmp_path / "short", GPT2)
    return Settings(
        model_dir=tmp_path,
        max_texts=3,
        max_tokens=6,
        max_row_tokens=9,
        max_total_tokens=10,
        max_contribution_tokens=4,
    )


def faults(settings: Settings, **fields: Any) -> list[tuple[str, str]]:
    """(pointer, detail) of everything that is wrong with a request."""
    request = JobRequest(**({"models": ["tiny"], "texts": ["apple 3 river"]} | fields))
    try:
        admit(request, settings)
    except ProblemError as error:
        assert error.kind is ProblemType.INVALID_REQUEST
        return [(entry.pointer, entry.detail) for entry in error.problem.errors]
    return []


def test_more_figures_than_a_job_may_draw_are_refused_with_both_numbers(
    settings: Settings,
) -> None:
    # 3 layers x 3 methods, 3 strips and 3 overviews for each of 2 texts, and their averages; a
    # page of neurons for each layer, and one for all.
    texts = {"texts": ["apple", "river"], "layers": "all"}
    enough = settings.model_copy(update={"max_figures": 35})
    assert faults(enough, **texts) == []
    few = settings.model_copy(update={"max_figures": 34})
    ((pointer, detail),) = faults(few, **texts)
    assert pointer == "/figures"
    assert "35 figures" in detail
    assert "34" in detail
    assert faults(few, **texts, figures=False) == []
    assert faults(few, **texts, attention=None) == []
    assert faults(few, **texts, neurons=None) == []


def test_figures_of_several_models_and_of_their_comparison_count_together(
    settings: Settings,
) -> None:
    # 15 of a text under three layers, 11 under two; 3 of the text under both and 3 of the depths;
    # 3 layers' neurons, and 2 blocks' of 2 layers, and one page more for each model.
    texts = {"models": ["tiny", "short"], "texts": ["apple"], "layers": None}
    assert faults(settings.model_copy(update={"max_figures": 41}), **texts) == []
    ((pointer, detail),) = faults(settings.model_copy(update={"max_figures": 40}), **texts)
    assert pointer == "/figures"
    assert "41 figures" in detail


def test_a_fitting_request_is_admitted(settings: Settings) -> None:
    assert faults(settings, layers=[0, 2], target={"position": -3, "token": "7"}) == []
    assert faults(settings, layers="all") == []


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"texts": ["apple"] * 4}, "/texts", "at most 3"),
    ({"texts": ["apple", "7 " * 7]}, "/texts/1", "7 tokens in `tiny`, which takes at most 6"),
    ({"texts": ["7 " * 5] * 3}, "/texts", "15 tokens together"),
    ({"texts": ["7 " * 5], "models": ["short"]}, "/texts/0", "at most 4"),
    ({"models": ["tiny", "nobody"]}, "/models/1", "short, tiny"),
    ({"layers": [0, 3]}, "/layers/1", "0 to 2"),
    ({"layers": [10**30]}, "/layers/0", "0 to 2"),
    ({"target": {"position": 3}}, "/target/position", "-3 to 2"),
    ({"target": {"position": -4}}, "/target/position", "-3 to 2"),
    ({"texts": ["7 7", "7"], "target": {"position": 1}}, "/target/position", "Text 1"),
    ({"target": {"token": "apple 7"}}, "/target/token", "2 tokens"),
    ({"target": {"token": "strange"}}, "/target/token", "vocabulary"),
    ({"target": {"contrast": "river river"}}, "/target/contrast", "2 tokens"),
    ({"target": {"token": "7", "contrast": "7"}}, "/target/contrast", "always 0"),
    (
        {
            "texts": ["7 " * 5],
            "attention": {"methods": ["contribution"], "rows": "all"},
        },
        "/attention/rows",
        "at most 4",
    ),
]


@pytest.mark.parametrize(("fields", "pointer", "words"), CASES)
def test_what_does_not_fit_is_named_with_its_mend(
    settings: Settings, fields: dict[str, Any], pointer: str, words: str
) -> None:
    [(found, detail)] = faults(settings, **fields)
    assert found == pointer
    assert words in detail


def test_all_rows_are_bounded_only_for_contribution(settings: Settings) -> None:
    attention = {"methods": ["rollout"], "rows": "all"}
    assert faults(settings, texts=["7 " * 5], attention=attention) == []
    assert faults(settings, texts=["7 " * 5], attention=None) == []


@pytest.mark.parametrize(
    "attention",
    [
        None,
        {"methods": ["contribution"]},
        {"methods": ["rollout", "contribution"], "rows": "target"},
    ],
)
def test_a_longer_text_is_admitted_where_only_the_targets_row_is_read(
    settings: Settings, attention: dict[str, Any] | None
) -> None:
    assert faults(settings, texts=["7 " * 9], attention=attention) == []
    [(pointer, detail)] = faults(settings, texts=["7 " * 10], attention=attention)
    assert pointer == "/texts/0"
    assert "takes at most 9:" in detail


def test_a_text_too_long_for_its_matrices_is_told_what_would_allow_it(settings: Settings) -> None:
    [(_, detail)] = faults(settings, texts=["7 " * 8])
    assert "takes at most 6 (up to 9 with `attention.rows` set to `target`)" in detail


def test_every_fault_is_named_at_once(settings: Settings) -> None:
    pointers = [
        pointer
        for pointer, _ in faults(
            settings,
            models=["tiny", "nobody", "short"],
            layers=[2, 5],
            target={"position": 9, "token": "strange"},
        )
    ]
    assert sorted(pointers) == sorted(
        ["/models/1", "/layers/0", "/layers/1", "/layers/1"]
        + ["/target/position", "/target/token"] * 2
    )


def test_no_more_faults_are_named_than_are_read(settings: Settings) -> None:
    found = faults(settings, models=["tiny", "short"], layers=list(range(5000)))
    assert len(found) == 100


def test_a_text_without_tokens_is_refused(settings: Settings, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.Replace("~", " ")
    save_model(tmp_path / "strips", tokenizer=tokenizer)
    [(pointer, detail)] = faults(settings, models=["strips"], texts=["apple", "~"])
    assert pointer == "/texts/1"
    assert "no token" in detail


def test_files_that_cannot_be_read_are_left_to_the_worker(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    settings = Settings(model_dir=tmp_path, hugging_face_ids=("someone/not-here",))
    for name in ("broken", "someone/not-here"):
        assert faults(settings, models=[name], layers=[99], target={"position": 50}) == []


def test_what_can_be_read_of_a_broken_model_is_still_judged(tmp_path: Path) -> None:
    (save_model(tmp_path / "half") / "tokenizer.json").unlink()
    settings = Settings(model_dir=tmp_path)
    [(pointer, _)] = faults(settings, models=["half"], layers=[99], target={"position": 50})
    assert pointer == "/layers/0"


def test_texts_that_the_tokenizer_refuses_are_named(settings: Settings, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    vocabulary = {"apple": 0, "7": 1}
    tokenizer.model = models.WordLevel(vocabulary, unk_token="<unk>")
    save_model(tmp_path / "tiny", tokenizer=tokenizer)
    [(pointer, detail)] = faults(settings, texts=["apple", "apple strange"])
    assert pointer == "/texts/1"
    assert "`tiny` cannot read the text" in detail


def test_the_tokens_of_all_texts_over_all_models_are_told(
    settings: Settings, tmp_path: Path
) -> None:
    both = JobRequest(models=["tiny", "short"], texts=["apple 3 river", "apple 3"])
    assert admit(both, settings) == 10
    # No tokenizer is here, so bytes stand for tokens, of which there are no more.
    (tmp_path / "hollow").mkdir()
    assert admit(JobRequest(models=["hollow"], texts=["é 3", "a"]), settings) == 5
