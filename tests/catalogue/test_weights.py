"""The size of weights by their headers: what real files hold, and files that lie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from catalogue.weights import WeightsSize, weights_size
from schemas.problem import ProblemError, ProblemType

FILE = "model.safetensors"


def write(directory: Path, header: Any, data: bytes = b"", length: int | None = None) -> None:
    encoded = json.dumps(header).encode()
    told = len(encoded) if length is None else length
    (directory / FILE).write_bytes(told.to_bytes(8, "little") + encoded + data)


def entry(shape: Any, start: Any, end: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}


def test_what_the_library_writes_is_counted(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((3, 4), np.float32), "b": np.zeros((5,), np.float16)}
    save_file(tensors, tmp_path / FILE, metadata={"format": "pt"})
    assert weights_size(tmp_path, "m") == WeightsSize(17, 58)


def test_shards_are_added_up(tmp_path: Path) -> None:
    for name, count in (("one", 3), ("two", 4)):
        save_file({name: np.zeros(count, np.float32)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"one": "one.safetensors", "two": "two.safetensors"}}
    (tmp_path / f"{FILE}.index.json").write_text(json.dumps(index))
    assert weights_size(tmp_path, "m") == WeightsSize(7, 28)


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (entry([4], 0, 1000), None),
        (entry([10**30], 0, 16), None),
        (entry([-4], 0, 16), None),
        (entry([4], 16, 0), None),
        (entry(["4"], 0, 16), None),
        (entry([4], None, 16), None),
        (entry(None, 0, 16), None),
        ({"a": {}}, None),
        ({"a": []}, None),
        ([], None),
        (entry([4], 0, 16), 2**63),
        (entry([4], 0, 16), 3),
    ],
)
def test_a_file_that_is_not_what_its_header_says_is_refused(
    tmp_path: Path, header: Any, length: int | None
) -> None:
    write(tmp_path, header, bytes(16), length)
    with pytest.raises(ProblemError, match="truncated or damaged") as caught:
        weights_size(tmp_path, "m")
    assert caught.value.kind is ProblemType.MODEL_INVALID


def test_a_shard_with_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    shard = "x" * 300 + ".safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ProblemError, match="is missing") as caught:
        weights_size(tmp_path, "m")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", [b"", b"\x01", bytes(8), b"\xff" * 64])
def test_a_file_that_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ProblemError, match="truncated or damaged"):
        weights_size(tmp_path, "m")
