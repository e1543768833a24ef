from pathlib import Path

import pytest

from catalogue import locate as module
from catalogue.locate import Location, UnknownModel, installed, locate
from schemas.settings import Settings
from tests.catalogue.models import save_model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_model(tmp_path / "models" / "plain")
    save_model(tmp_path / "models" / "owner" / "named")
    save_model(tmp_path / "outside")
    return Settings(model_dir=tmp_path / "models")


def test_a_directory_is_found_by_its_name(settings: Settings, tmp_path: Path) -> None:
    assert locate("plain", settings) == Location("plain", "directory", tmp_path / "models/plain")
    assert locate("owner/named", settings).path == tmp_path / "models/owner/named"


def test_installed_lists_directories_that_have_a_config(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "models" / "empty").mkdir()
    save_model(tmp_path / "models" / "_hidden")
    names = [place.name for place in installed(settings) if place.source == "directory"]
    assert names == ["owner/named", "plain"]


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "owner/../../outside", "/etc", "..", "", "plain/../plain", "pocket"),
        *("a/b/c", "x" * 300, "pocket/" + "x" * 300, "owner/" + "x" * 5000),
    ],
)
def test_names_that_are_paths_are_unknown(settings: Settings, name: str) -> None:
    with pytest.raises(UnknownModel):
        locate(name, settings)


def test_a_link_out_of_the_model_directory_is_not_followed(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "models" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "models" / "inner").symlink_to(tmp_path / "models" / "plain")
    with pytest.raises(UnknownModel):
        locate("link", settings)
    assert "link" not in [place.name for place in installed(settings)]
    assert locate("inner", settings).path == tmp_path / "models" / "plain"


def test_a_ring_of_links_is_no_model(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "models" / "ring").symlink_to(tmp_path / "models" / "ring")
    with pytest.raises(UnknownModel):
        locate("ring", settings)


def test_pocket_names_never_lead_to_the_model_directory(settings: Settings, tmp_path: Path) -> None:
    save_model(tmp_path / "models" / "pocket" / "fake")
    with pytest.raises(UnknownModel):
        locate("pocket/fake", settings)
    assert "pocket/fake" not in [place.name for place in installed(settings)]


def test_the_bundled_model_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_model(tmp_path / "bundle" / "tiny")
    monkeypatch.setattr(module, "_POCKET_DIR", tmp_path / "bundle")
    place = Location("pocket/tiny", "pocket", tmp_path / "bundle" / "tiny")
    assert installed(Settings()) == [place]
    assert locate("pocket/tiny", Settings()) == place


def test_unknown_names_say_what_is_known(settings: Settings) -> None:
    with pytest.raises(
        UnknownModel, match=r"`nothing`.*owner/named, plain.*mamba-\*, state-spaces/mamba2-\*, gpt2"
    ):
        locate("nothing", settings)


def test_a_multitude_of_names_is_cut_short(tmp_path: Path) -> None:
    for number in range(25):
        save_model(tmp_path / f"model-{number:02}")
    with pytest.raises(UnknownModel, match=r"and \d+ more") as caught:
        locate("nothing", Settings(model_dir=tmp_path))
    assert "model-24" not in str(caught.value)


def test_an_allowed_id_that_is_not_cached_has_no_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(hugging_face_ids=("someone/never-*-cached",))
    assert locate("someone/never-x-cached", settings) == Location(
        "someone/never-x-cached", "hugging-face", None
    )
    for refused in ("someone/other", "someone/never--cached", "gpt2"):
        with pytest.raises(UnknownModel):
            locate(refused, settings)


def test_a_cached_id_has_its_snapshot_and_revision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--kept"
    snapshot = save_model(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = locate("someone/kept", Settings(hugging_face_ids=("someone/*",)))
    assert place == Location("someone/kept", "hugging-face", snapshot, revision)


def test_a_directory_wins_over_an_id(tmp_path: Path) -> None:
    path = save_model(tmp_path / "gpt2")
    assert locate("gpt2", Settings(model_dir=tmp_path)) == Location("gpt2", "directory", path)
