"""Pickled state dicts by their programs: sizes of real ones, and programs refused unrun."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from catalogue.pickled import PickledSize, inspect

FILE = "pytorch_model.bin"
RECORD = {"data/0": bytes(8)}
# A reference to that record: two numbers of float32.
REFERENCE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
)


def write(directory: Path, program: bytes, records: dict[str, bytes] = RECORD) -> Path:
    with zipfile.ZipFile(directory / FILE, "w") as archive:
        for name, data in {"data.pkl": program, **records}.items():
            archive.writestr(f"archive/{name}", data)
    return directory / FILE


def test_what_torch_writes_is_counted(tmp_path: Path) -> None:
    shared = torch.zeros(70000)
    state: dict[str, Any] = {"a": shared, "b": shared, "c": torch.zeros(3, 5).bfloat16()}
    # More entries than a byte counts, for the memo's wider operations.
    state |= {f"layer.{index}": torch.zeros(1).half() for index in range(300)}
    state["parameter"] = torch.nn.Parameter(torch.zeros(2).double())
    torch.save(state, tmp_path / FILE)
    size = inspect(tmp_path / FILE)
    assert size == PickledSize(70000 + 15 + 300 + 2, 4 * 70000 + 2 * 15 + 2 * 300 + 8 * 2)


def test_a_module_s_own_state_dict_is_counted(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / FILE)
    assert inspect(tmp_path / FILE) == PickledSize(16, 64)


def test_the_smallest_program(tmp_path: Path) -> None:
    assert inspect(write(tmp_path, b"\x80\x02" + REFERENCE + b".")) == PickledSize(2, 8)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (pickle.dumps(print, 2), "asks for `__builtin__.print`"),
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", "asks for `posix.system`"),
        (pickle.dumps(print, 4), "more than tensors"),
        (b"(iposix\nsystem\n.", "more than tensors"),
        (b"\x80\x02\x82\x01.", "more than tensors"),
        (b"\x80\x02" + REFERENCE + b"0.", "more than tensors"),
        (b"\x80\x02P0\n.", "more than tensors"),
        (b"", "is truncated or damaged"),
        (b"\x80\x02(X\xff\xff\xff\xffa", "is truncated or damaged"),
        (b"\xff\xff", "is truncated or damaged"),
        (b"\x80\x02}.", "does not hold the numbers"),
        (b"\x80\x02" + REFERENCE.replace(b"K\x02", b"K\x03") + b".", "does not hold the numbers"),
        (b"\x80\x02" + REFERENCE.replace(b"Float", b"Half") + b".", "does not hold the numbers"),
        (b"\x80\x02" + REFERENCE.replace(b"\x000X", b"\x001X") + b".", "does not hold the numbers"),
        (b"\x80\x02" + REFERENCE + REFERENCE.replace(b"\x02t", b"\x03t") + b".", "in two ways"),
        (b"\x80\x02" + REFERENCE.replace(b"Float", b"Long") + b".", "torch.LongStorage"),
        (b"\x80\x02}Q.", "names a storage of no real numbers"),
        (b"\x80\x02" + REFERENCE + b"N" + 20_000 * b"\x85" + b".", "far more than a model's"),
        (b"\x80\x02" + (1 << 20) * b"N" + b".", "far more than a model's"),
    ],
)
def test_programs_that_are_refused(tmp_path: Path, program: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"save|copy") as caught:
        inspect(write(tmp_path, program))
    assert said in str(caught.value)


def test_records_that_no_tensor_names(tmp_path: Path) -> None:
    program = b"\x80\x02" + REFERENCE + b"."
    with pytest.raises(ValueError, match="does not hold the numbers"):
        inspect(write(tmp_path, program, RECORD | {"data/1": bytes(4)}))


def test_zips_that_are_no_state_dict(tmp_path: Path) -> None:
    for entries in ({}, {"a/data.pkl": b"", "b/data.pkl": b""}):
        with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        with pytest.raises(ValueError, match="no state dict"):
            inspect(tmp_path / FILE)


def test_one_record_under_many_names_is_not_multiplied(tmp_path: Path) -> None:
    """Entries of the zip's directory that share their bytes."""
    big = 10_000
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        archive.writestr("archive/data.pkl", b".")
        archive.writestr("archive/data/0", bytes(big))
        for index in range(1, 9):
            entry = zipfile.ZipInfo(f"archive/data/{index}")
            first = archive.getinfo("archive/data/0")
            entry.file_size = entry.compress_size = big
            entry.CRC, entry.header_offset = first.CRC, first.header_offset
            archive.filelist.append(entry)
    with pytest.raises(ValueError, match="overlap"):
        inspect(tmp_path / FILE)


@pytest.mark.parametrize("content", [b"", b"PK", bytes(100), b"PK\x05\x06" + bytes(18)])
def test_files_that_are_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="torch"):
        inspect(tmp_path / FILE)
