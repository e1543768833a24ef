"""Texts from files: one a line, a JSON list, or JSON lines."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambascope.usage import UsageProblem

STDIN = "-"
# More than a service takes; a file without an end would fill the memory.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Sourced:
    """A text and where it stands, in words that a user finds it by."""

    text: str
    source: str


def read_bytes(name: str) -> bytes:
    """A file's bytes, or those of standard input for `-`. Raises UsageProblem."""
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageProblem(f"{label(name)} holds more than {_MOST_BYTES >> 20} MiB of text.")
        return data
    except OSError as error:
        raise UsageProblem(f"{name} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageProblem(f"{name!r} is no file's name: {error}.") from error


def decoded(data: bytes, name: str) -> str:
    """Bytes as UTF-8, with or without a byte order mark. Raises UsageProblem."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageProblem(
            f"{label(name)}, line {line}: byte {error.start} is not UTF-8. Convert the file, for "
            "example with `iconv -f latin1 -t utf-8`."
        ) from error


def parsed(written: str, where: str) -> Any:
    """A JSON value. Raises UsageProblem."""
    try:
        return json.loads(written)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageProblem(f"{where} is not JSON: {error}.") from error


def read_texts(name: str) -> list[Sourced]:
    """The texts of a file, in its order. Raises UsageProblem, also when it holds none.

    `.json`: a list of strings; `.jsonl`: a string, or an object with `text`, a line; any other
    name, and `-` for standard input: one text a line, without its end. Blank lines are left out.
    """
    written = decoded(read_bytes(name), name)
    suffix = Path(name).suffix.lower()
    reader = {".json": _from_json, ".jsonl": _from_json_lines}.get(suffix, _from_lines)
    texts = list(reader(written, label(name)))
    if not texts:
        raise UsageProblem(f"{label(name)} holds no text.")
    return texts


def label(name: str) -> str:
    """How a file is named to the user."""
    return "standard input" if name == STDIN else name


def _lines(written: str) -> Iterator[tuple[int, str]]:
    """(number, line) of each that is not blank. Only a newline ends one; a text may hold others."""
    for number, line in enumerate(written.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def _from_lines(written: str, name: str) -> Iterator[Sourced]:
    for number, line in _lines(written):
        yield Sourced(line, f"{name}, line {number}")


def _from_json_lines(written: str, name: str) -> Iterator[Sourced]:
    for number, line in _lines(written):
        where = f"{name}, line {number}"
        value = parsed(line, where)
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise UsageProblem(f'{where}: give an object with a string "text".')
        yield Sourced(text, where)


def _from_json(written: str, name: str) -> Iterator[Sourced]:
    value = parsed(written, name) if written.strip() else []
    if not isinstance(value, list):
        raise UsageProblem(f"{name}: give a list of strings.")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise UsageProblem(f"{name}: item {index} of the list is no string.")
        yield Sourced(text, f"{name}, item {index}")
