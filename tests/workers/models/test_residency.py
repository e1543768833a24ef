"""Which models stay loaded, and when one is read again."""

from pathlib import Path

import pytest

from catalogue.describe import describe
from catalogue.locate import UnknownModel, locate
from catalogue.memory import weight_bytes
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.tiny_models import save_mamba
from workers.models.residency import Residency

NAMES = ("one", "two", "three")


@pytest.fixture
def residency(tmp_path: Path) -> Residency:
    for seed, name in enumerate(NAMES):
        save_mamba(tmp_path / name, seed=seed, num_hidden_layers=1)
    return Residency(Settings(model_dir=tmp_path, device="cpu", resident_models=2))


def test_the_second_time_nothing_is_loaded(residency: Residency) -> None:
    first, fresh = residency.get("one")
    again, loaded = residency.get("one")
    assert (fresh, loaded) == (True, False)
    assert again is first


def test_the_least_recently_used_leaves(residency: Residency) -> None:
    residency.get("one")
    residency.get("two")
    residency.get("one")
    residency.get("three")
    assert residency.names() == ["one", "three"]
    assert residency.get("one")[1] is False
    assert residency.get("two")[1] is True


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_changed_files_are_read_again(residency: Residency, tmp_path: Path, file: str) -> None:
    before, _ = residency.get("one")
    path = tmp_path / "one" / file
    data = (tmp_path / "two" / file).read_bytes()
    path.write_bytes(data if file == "model.safetensors" else data + b"\n")
    after, fresh = residency.get("one")
    assert fresh
    if file == "model.safetensors":
        assert after.provenance.weights_sha256 != before.provenance.weights_sha256


def test_models_leave_before_the_budget_is_exceeded(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        save_mamba(tmp_path / name, seed=seed, num_hidden_layers=1)
    settings = Settings(model_dir=tmp_path, device="cpu")
    size = weight_bytes(describe(locate("one", settings), settings))
    two = Residency(settings.model_copy(update={"job_memory_bytes": 2 * size}))
    for name in NAMES:
        two.get(name)
    assert two.names() == ["two", "three"]
    two.make_room("three", size)
    assert two.names() == ["two", "three"]
    two.make_room("two", size + 1)
    assert two.names() == ["two"]
    two.make_room("two", 10 * size)
    assert two.names() == ["two"]
    none = Residency(settings.model_copy(update={"job_memory_bytes": size - 1}))
    with pytest.raises(ProblemError, match="to load") as caught:
        none.get("one")
    assert caught.value.kind is ProblemType.OUT_OF_MEMORY


def test_a_broken_model_leaves_the_others_usable(residency: Residency, tmp_path: Path) -> None:
    kept, _ = residency.get("one")
    (tmp_path / "two" / "config.json").write_text("{")
    with pytest.raises(ProblemError):
        residency.get("two")
    assert residency.names() == ["one"]
    assert residency.get("one") == (kept, False)


def test_unknown_names(residency: Residency) -> None:
    with pytest.raises(UnknownModel):
        residency.get("four")
