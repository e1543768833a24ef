"""Files of services that cannot be trusted, and connections that break."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mambascope.client import saving
from mambascope.client.errors import ServiceFault
from mambascope.client.service import Service
from mambascope.client.wire import BlockingWire, run

PNG = b"figure" * 1000


class Broken(httpx.SyncByteStream):
    """A body that ends in the middle."""

    def __iter__(self) -> Iterator[bytes]:
        yield PNG[:100]
        raise httpx.ReadError("cut")


class Store:
    """A service that lists files, and sends one of `bodies` for each that is fetched."""

    def __init__(self, *listed: dict[str, Any], bodies: list[Any]) -> None:
        self.listed, self.bodies = listed, bodies
        self.paths: list[str] = []
        http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(self._answer))
        self.service = Service(BlockingWire(http, pause=lambda seconds: None))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if request.url.path.endswith("/artifacts"):
            return httpx.Response(200, json={"job_id": "1", "artifacts": self.listed})
        body = self.bodies.pop(0)
        if isinstance(body, httpx.SyncByteStream):
            return httpx.Response(200, stream=body)
        return httpx.Response(200, content=body)


def listed(name: str, data: bytes = PNG, kind: str = "figure") -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "media_type": "image/png",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "href": "http://elsewhere/secret",
    }


def save(store: Store, folder: Path, *more: Callable[[int, int], None]) -> list[Path]:
    return run(saving.save(store.service, "1", folder, *more))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_kind_has_its_place_and_files_are_replaced(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "output"
    (output / "images").mkdir(parents=True)
    (output / "images" / "a.png").write_bytes(b"of an earlier job")
    (output / "mine.txt").write_bytes(b"mine")
    seen: list[tuple[int, int]] = []
    store = Store(
        listed("result.json", b"{}", "result"),
        listed("a.png"),
        listed("_mine--b.png"),
        listed("tensors.safetensors", b"t", "tensors"),
        bodies=[b"{}", PNG, PNG, b"t"],
    )
    paths = save(store, output, lambda done, of: seen.append((done, of)))
    assert files(output) == [
        *("images/_mine--b.png", "images/a.png"),
        *("mine.txt", "result.json", "tensors.safetensors"),
    ]
    assert paths == [
        output / name
        for name in ("result.json", "images/a.png", *files(output)[:1], "tensors.safetensors")
    ]
    assert (output / "images" / "a.png").read_bytes() == PNG
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert store.paths[1] == "/v1/jobs/1/artifacts/result.json", "not where `href` points"


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.png",
        "/tmp/escaped.png",
        "a/b.png",
        "a\\b.png",
        "..",
        ".",
        "",
        ".bashrc",
        "a\0.png",
        "a\n.png",
        "a.png\n",
        "\x1b[2J.png",
        "a" * 300,
    ],
)
def test_name_that_is_no_plain_name_saves_nothing(tmp_path: Path, name: str) -> None:
    output = tmp_path / "output"
    store = Store(listed("fine.png"), listed(name), bodies=[PNG, PNG])
    with pytest.raises(ServiceFault, match="no plain file name"):
        save(store, output)
    assert list(tmp_path.iterdir()) == []
    assert len(store.paths) == 1, "nothing was fetched"


def test_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    store = Store(listed("a.png"), listed("a.png"), bodies=[PNG, PNG])
    with pytest.raises(ServiceFault):
        save(store, tmp_path)


@pytest.mark.parametrize("body", [PNG[:-1], PNG + b"!", b"f" * len(PNG), b""])
def test_other_bytes_than_those_listed_leave_the_old_file(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"old")
    with pytest.raises(ServiceFault, match=r"a\.png did not arrive as the service lists it"):
        save(Store(listed("a.png"), bodies=[body]), tmp_path)
    assert files(tmp_path) == ["images/a.png"]
    assert (tmp_path / "images" / "a.png").read_bytes() == b"old"


def test_broken_connection_is_tried_again_from_the_start(tmp_path: Path) -> None:
    store = Store(listed("a.png"), bodies=[Broken(), PNG])
    save(store, tmp_path)
    assert files(tmp_path) == ["images/a.png"]
    assert (tmp_path / "images" / "a.png").read_bytes() == PNG


def test_file_has_the_permissions_that_the_user_gives_new_ones(tmp_path: Path) -> None:
    save(Store(listed("a.png"), bodies=[PNG]), tmp_path)
    (tmp_path / "mine").touch()
    mode = (tmp_path / "images" / "a.png").stat().st_mode
    assert mode == (tmp_path / "mine").stat().st_mode
