import pytest
from pydantic import ValidationError

from schemas.settings import ModelSettings, Settings


def test_hugging_face_ids_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBASCOPE_HUGGING_FACE_IDS", "gpt2, state-spaces/mamba-*-hf,")
    assert Settings().hugging_face_ids == ("gpt2", "state-spaces/mamba-*-hf")


def test_no_id_at_all_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBASCOPE_HUGGING_FACE_IDS", "")
    assert Settings().hugging_face_ids == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda:"),
        ("LOG_LEVEL", "loud"),
        ("MODEL_DIR", "/nowhere/at/all"),
        ("MAX_TEXTS", "0"),
        ("PORT", "65536"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MAMBASCOPE_{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert caught.value.errors()[0]["loc"] == (name.lower(),)


def test_log_levels_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBASCOPE_LOG_LEVEL", "debug")
    assert Settings().log_level == "DEBUG"


def test_settings_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    big = '{"dtype": "bfloat16", "reconstruction_tolerance": 0.05}'
    given = f'{{"gpt2": {{"device": "cuda:1"}}, "big/*": {big}}}'
    monkeypatch.setenv("MAMBASCOPE_MODELS", given)
    settings = Settings()
    assert settings.for_model("gpt2").device == "cuda:1"
    assert (settings.for_model("big/one").dtype, settings.tolerance_of("big/one")) == (
        "bfloat16",
        0.05,
    )
    assert settings.for_model("other") == ModelSettings()
    assert settings.tolerance_of("gpt2") == settings.reconstruction_tolerance
    hash(settings)


@pytest.mark.parametrize(
    "value", ["[1]", "7", "{", '{"gpt2": {"dtype": "int8"}}', '{"gpt2": {"devise": "cpu"}}']
)
def test_settings_of_models_that_are_wrong_are_named(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMBASCOPE_MODELS", value)
    with pytest.raises(ValidationError, match="models"):
        Settings()
