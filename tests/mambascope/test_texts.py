"""Texts from files, as users have them."""

import io
from pathlib import Path

import pytest

from mambascope.texts import read_texts
from mambascope.usage import UsageProblem


def written(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def read(name: str) -> list[str]:
    return [sourced.text for sourced in read_texts(name)]


def test_one_text_a_line(tmp_path: Path) -> None:
    data = "\ufeffThe capital of France is \r\n\n  \t\n two\u2028lines\x0b\nlast".encode()
    name = written(tmp_path, "texts.txt", data)
    assert read(name) == ["The capital of France is ", " two\u2028lines\x0b", "last"]
    assert [sourced.source for sourced in read_texts(name)] == [
        f"{name}, line 1",
        f"{name}, line 4",
        f"{name}, line 5",
    ]


def test_json_holds_a_list(tmp_path: Path) -> None:
    name = written(tmp_path, "texts.JSON", b'["a\\nb", " ", "c"]')
    assert read(name) == ["a\nb", " ", "c"]
    assert read_texts(name)[2].source == f"{name}, item 2"


def test_json_lines_hold_objects(tmp_path: Path) -> None:
    name = written(tmp_path, "texts.jsonl", b'{"text": "a", "label": 1}\n\n"b"\n')
    assert read(name) == ["a", "b"]
    assert read_texts(name)[1].source == f"{name}, line 3"


def test_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é\n".encode()), "ascii"))
    assert [(s.text, s.source) for s in read_texts("-")] == [("é", "standard input, line 1")]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"", "holds no text"),
        ("a.txt", b"\n  \n", "holds no text"),
        ("a.txt", b"fine\nfaul\xe9\n", r"line 2: byte 9 is not UTF-8"),
        ("a.json", b"[]", "holds no text"),
        ("a.json", b"", "holds no text"),
        ("a.json", b'{"text": "a"}', "give a list of strings"),
        ("a.json", b'["a", 3]', "item 1 of the list is no string"),
        ("a.json", b'["a"', "is not JSON"),
        ("a.json", b"[" * 200_000, "is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', r'line 2: give an object with a string "text"'),
        ("a.jsonl", b'{"text": "a"}\nb', "line 2 is not JSON"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    with pytest.raises(UsageProblem, match=said):
        read_texts(written(tmp_path, name, data))


def test_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="nowhere cannot be read: No such file"):
        read_texts(str(tmp_path / "nowhere"))
    with pytest.raises(UsageProblem, match="cannot be read: Is a directory"):
        read_texts(str(tmp_path))
    with pytest.raises(UsageProblem, match="no file's name"):
        read_texts("a\0b")


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(UsageProblem, match="/dev/zero holds more than 64 MiB"):
        read_texts("/dev/zero")
