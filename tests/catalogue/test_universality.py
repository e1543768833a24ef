"""Requests whose models' neurons are to be compared: what is refused, and the memory it takes."""

from pathlib import Path
from typing import Any

import pytest

from catalogue.admission import admit
from catalogue.universality import Compared, matching_bytes, sample_bytes
from schemas.problem import ProblemError
from schemas.request import JobRequest
from schemas.settings import GIB, Settings
from tests.catalogue.models import GPT2, MAMBA, described, save_model

LONG = " ".join(["apple 3 river 7"] * 4)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_model(tmp_path / "tiny")
    save_model(tmp_path / "other", GPT2 | {"n_positions": 64})
    return Settings(model_dir=tmp_path)


def request(**fields: Any) -> JobRequest:
    whole = {"models": ["tiny", "other"], "texts": [LONG], "universality": {}, "figures": False}
    return JobRequest.model_validate(whole | fields)


def faults(settings: Settings, **fields: Any) -> list[tuple[str, str]]:
    try:
        admit(request(**fields), settings)
    except ProblemError as error:
        return [(entry.pointer, entry.detail) for entry in error.problem.errors]
    return []


def test_two_models_are_admitted_with_or_without_the_neurons_themselves(settings: Settings) -> None:
    assert faults(settings) == []
    assert faults(settings, neurons=None) == []
    assert faults(settings, attention=None, neurons=None) == []


def test_one_model_has_nobody_to_be_compared_with(settings: Settings) -> None:
    [(pointer, detail)] = faults(settings, models=["tiny"])
    assert pointer == "/universality"
    assert "at least two in `models`" in detail
    assert faults(settings, models=["tiny"], universality=None) == []


def test_a_second_model_that_does_not_exist_is_the_only_fault(settings: Settings) -> None:
    [(pointer, _)] = faults(settings, models=["tiny", "nobody"])
    assert pointer == "/models/1"


def test_texts_with_too_few_tokens_are_refused_of_each_model(settings: Settings) -> None:
    found = faults(settings, texts=["apple 3 river 7", "apple " * 11])
    assert [pointer for pointer, _ in found] == ["/texts", "/texts"]
    assert "have 15 tokens together in `tiny`" in found[0][1]
    assert "15 tokens together in `other`" in found[1][1]
    assert faults(settings, texts=["apple 3 river 7", "apple " * 12]) == []


def test_samples_that_do_not_fit_are_refused_with_how_many_tokens_would(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(tmp_path / name, MAMBA | {"hidden_size": 1024, "num_hidden_layers": 48})
    settings = Settings(model_dir=tmp_path, job_memory_bytes=2 * GIB)
    asked = {"models": ["one", "two"], "texts": ["apple " * 4096] * 2, "layers": "all"}
    cheap = {"attention": {"methods": ["contribution"]}, "neurons": None}
    [(pointer, detail)] = faults(settings, **asked, **cheap)
    assert pointer == "/universality/max_tokens"
    assert "a job may use 2.00 GiB" in detail
    fitting = int(detail.split("set `max_tokens` to ")[1].split()[0])
    assert faults(settings, **asked, **cheap, universality={"max_tokens": fitting}) == []
    more = faults(settings, **asked, **cheap, universality={"max_tokens": fitting + 1})
    assert [pointer for pointer, _ in more] == [pointer]


def test_a_sample_holds_every_neuron_of_the_layers_at_every_compared_token() -> None:
    model = described(layers=4, mlp_channels=3072)
    whole = request(layers=[0, 3], universality={"max_tokens": 100})
    assert sample_bytes(whole, Compared(model, [70, 70])) == 4 * 100 * 2 * (1536 + 3072)
    assert sample_bytes(whole, Compared(model, [40, 10])) == 4 * 50 * 2 * (1536 + 3072)
    assert sample_bytes(whole, Compared(model, [])) == 4 * 100 * 2 * (1536 + 3072)
    of_mixers = request(layers=[0, 3], universality={"max_tokens": 100, "blocks": ["mixer"]})
    assert sample_bytes(of_mixers, Compared(model, [70, 70])) == 4 * 100 * 2 * 1536
    known = [layer.model_copy(update={"mlp_neurons": 0}) for layer in model.layers]
    without = model.model_copy(update={"layers": known})
    assert sample_bytes(whole, Compared(without, [70, 70])) == 4 * 100 * 2 * 1536
    none = request(universality=None)
    assert sample_bytes(none, Compared(model, [9])) == 0
    assert matching_bytes(none, [Compared(model, [9])]) == 0
