"""Jobs share a result only where it cannot differ."""

import os
from pathlib import Path

import pytest

from catalogue.fingerprint import fingerprint
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.catalogue.models import save_model

TEXTS = {"models": ["tiny"], "texts": ["apple 3 river"]}


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    save_model(tmp_path / "models" / "tiny")
    return settings.model_copy(update={"model_dir": tmp_path / "models"})


def of(settings: Settings, **fields: object) -> str:
    return fingerprint(JobRequest.model_validate(TEXTS | fields), settings)


def test_what_is_not_about_the_result_changes_nothing(own: Settings) -> None:
    same = of(own)
    assert len(same) == 64
    webhook = {"url": "https://example.org/", "secret": None}
    assert same == of(own, metadata={"a": "b"}, webhook=webhook, reuse=False)
    assert same == of(own.model_copy(update={"port": 1, "max_texts": 7}))


@pytest.mark.parametrize(
    "other",
    [
        {"texts": ["apple 3 river "]},
        {"layers": [0]},
        {"seed": 1},
        {"figures": False},
        {"target": {"position": 0}},
        {"models": ["pocket/recall-mamba"]},
        {"models": ["tiny", "pocket/recall-mamba"]},
    ],
)
def test_another_request_is_another(own: Settings, other: dict[str, object]) -> None:
    assert of(own, **other) not in (of(own), "")


def test_files_that_change_make_another(own: Settings, tmp_path: Path) -> None:
    before = of(own)
    config = tmp_path / "models" / "tiny" / "config.json"
    os.utime(config, ns=(0, 1))
    assert of(own) not in (before, "")


def test_settings_that_numbers_depend_on_make_another(own: Settings) -> None:
    models = Settings(models='{"tiny": {"dtype": "bfloat16"}}').models
    assert of(own.model_copy(update={"models": models})) != of(own)
    assert of(own.model_copy(update={"device": "cpu"})) != of(own)


def test_a_model_that_is_not_here_is_shared_with_nobody(own: Settings) -> None:
    assert of(own, models=["gpt2"]) == ""
    assert of(own, models=["no-such-model"]) == ""
