"""Downloading a Hugging Face id, from a server on this machine that speaks the hub's protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import save_file

from catalogue.locate import Location, locate
from catalogue.native import TOKENIZER_ID
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.native_models import CHECKPOINT, MAMBA, mamba, native_state, save_native
from tests.tiny_models import save_mamba
from workers.models.fetching import fetch
from workers.models.residency import Residency

ID = "state-spaces/mamba-tiny-hf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """One repository; the files asked for are noted on the server.

    A directory `tokenizer` in it is served as TOKENIZER_ID, noted with that name before the file's.
    """

    def __init__(self, root: Path, asked: list[str], *args: object) -> None:
        self.root, self.asked = root, asked
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        present = [file for file in self.root.iterdir() if file.is_file()]
        if path.startswith(f"/api/models/{ID}/tree/"):
            entries = [
                {"type": "file", "path": file.name, "oid": "0", "size": file.stat().st_size}
                for file in present
            ]
            self._answer(json.dumps(entries).encode())
        elif path.startswith(f"/api/models/{ID}"):
            files = [{"rfilename": file.name} for file in present]
            self._answer(json.dumps({"id": ID, "sha": COMMIT, "siblings": files}).encode())
        elif path == f"/{TOKENIZER_ID}/resolve/main/{name}" and (self.other / name).is_file():
            self.asked.append(f"{TOKENIZER_ID}/{name}")
            self._answer((self.other / name).read_bytes())
        elif path.startswith(f"/{ID}/resolve/{COMMIT}/") and not (self.root / name).is_file():
            self._refuse("EntryNotFound")
        elif path == f"/{ID}/resolve/{COMMIT}/{name}":
            self.asked.append(name)
            self._answer((self.root / name).read_bytes())
        else:
            self._refuse("RepoNotFound")

    @property
    def other(self) -> Path:
        return self.root / "tokenizer"

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """The directory that the hub serves, and the files it was asked for."""
    root, asked = tmp_path / "hub", list[str]()
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, root, asked))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    files = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    try:
        yield root, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_id_is_downloaded_once_and_runs(hub: tuple[Path, list[str]]) -> None:
    root, asked = hub
    save_mamba(root, num_hidden_layers=1)
    (root / "pytorch_model.bin").write_bytes(b"pickle")
    (root / "modeling.py").write_text("raise SystemExit")
    settings = Settings(device="cpu")
    residency = Residency(settings)
    assert locate(ID, settings).path is None
    loaded, fresh = residency.get(ID)
    assert fresh
    assert loaded.provenance.revision == COMMIT
    assert set(asked) == {"config.json", "tokenizer.json", "model.safetensors"}
    asked.clear()
    assert residency.get(ID) == (loaded, False)
    assert fetch(locate(ID, settings)).revision == COMMIT
    assert asked == []


def test_an_id_without_safetensors_is_invalid(hub: tuple[Path, list[str]]) -> None:
    root, asked = hub
    save_mamba(root, num_hidden_layers=1)
    (root / "model.safetensors").rename(root / "pytorch_model.bin")
    with pytest.raises(ProblemError, match=f"`{ID}` is not usable: it has no weights") as caught:
        Residency(Settings(device="cpu")).get(ID)
    assert caught.value.kind is ProblemType.MODEL_INVALID
    assert "pytorch_model.bin" not in asked


@pytest.fixture
def native(hub: tuple[Path, list[str]]) -> tuple[Path, list[str]]:
    """The hub with a repository in mamba_ssm's own format, and the tokenizer's beside it."""
    root, _ = hub
    save_native(root, MAMBA, native_state(mamba()))
    (root / "tokenizer").mkdir()
    (root / "tokenizer.json").rename(root / "tokenizer" / "tokenizer.json")
    return hub


def test_a_native_id_is_downloaded_with_its_tokenizer(
    native: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, asked = native
    (root / "weights.pt").write_bytes(b"never fetched")
    settings = Settings(device="cpu")
    residency = Residency(settings)
    loaded, _ = residency.get(ID)
    # Each twice: its head, then the whole. The pickle follows the config that allows it.
    order = ["config.json", CHECKPOINT, f"{TOKENIZER_ID}/tokenizer.json"]
    assert list(dict.fromkeys(asked)) == order
    assert loaded.provenance.revision == COMMIT
    assert loaded.tokeniser.single_token("w3") == 4
    asked.clear()
    assert residency.get(ID) == (loaded, False)
    place = locate(ID, settings)
    assert fetch(place) == place
    assert asked == []
    assert place.path is not None and place.tokeniser_path is not None
    assert sorted(file.name for file in place.path.iterdir()) == ["config.json", CHECKPOINT]
    other = tmp_path / "cache" / "models--EleutherAI--gpt-neox-20b"
    assert place.tokeniser_path.is_relative_to(other)


def test_a_native_id_whose_tokenizer_came_later_is_completed(
    native: tuple[Path, list[str]],
) -> None:
    root, asked = native
    (root / "tokenizer").rename(root.parent / "away")
    said = rf"tokenizer.json of {TOKENIZER_ID}`.* for `{ID}`"
    with pytest.raises(ProblemError, match=said) as caught:
        fetch(locate(ID, Settings()))
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE
    (root.parent / "away").rename(root / "tokenizer")
    asked.clear()
    assert fetch(locate(ID, Settings())).tokeniser_path is not None
    assert set(asked) == {f"{TOKENIZER_ID}/tokenizer.json"}


def test_a_native_id_keeps_its_own_tokenizer_and_safetensors(
    native: tuple[Path, list[str]],
) -> None:
    root, asked = native
    (root / "tokenizer" / "tokenizer.json").rename(root / "tokenizer.json")
    state = {key: tensor.clone() for key, tensor in native_state(mamba()).items()}
    save_file(state, root / "model.safetensors")
    Residency(Settings(device="cpu")).get(ID)
    assert set(asked) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_native_id_without_weights_is_invalid(native: tuple[Path, list[str]]) -> None:
    root, _ = native
    (root / CHECKPOINT).unlink()
    with pytest.raises(ProblemError, match="it has no weights"):
        Residency(Settings(device="cpu")).get(ID)


def test_an_id_that_the_hub_does_not_know(hub: tuple[Path, list[str]]) -> None:
    with pytest.raises(ProblemError, match="could not be downloaded") as caught:
        fetch(Location("state-spaces/mamba-none-hf", "hugging-face", None))
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE


def test_a_hub_that_does_not_answer(
    hub: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ProblemError, match="MAMBASCOPE_MODEL_DIR") as caught:
        fetch(Location(ID, "hugging-face", None))
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE
