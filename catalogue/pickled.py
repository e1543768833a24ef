"""What a pickled state dict holds, told by its program without running it, and without torch.

`torch.save` writes a zip: `data.pkl`, a pickle program that builds a dictionary of tensors, and one
record of plain numbers for each storage that the program names. The program is disassembled here;
whoever reads the tensors runs it afterwards with an unpickler that knows tensors alone.
"""

import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

# Bytes of one number, by the storage's type.
_STORAGES = {
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch DoubleStorage": 8,
}
_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *_STORAGES,
}
_PUSHES = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_OTHERS = {
    *("PROTO", "STOP", "EMPTY_TUPLE", "EMPTY_DICT", "NEWTRUE", "NEWFALSE", "NONE"),
    *("REDUCE", "BUILD", "SETITEM", "SETITEMS"),
}
# The program of 640 tensors, as the largest published one has, takes 0.1 MB and 2,600 tuples. Far
# deeper ones, put into each other, overflow the stack when they are hashed.
_LONGEST_PROGRAM = 1 << 20
_MOST_TUPLES = 10_000
_RESAVE = "save the model's state dict again with torch.save"
# What zipfile raises for files that are no such zip.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class PickledSize:
    """Numbers in all storages of a state dict, and the bytes that store them."""

    numbers: int
    stored_bytes: int


def inspect(file: Path) -> PickledSize:
    """The size of the state dict in a file of `torch.save`. Costs a read of its program alone.

    Raises ValueError, saying what is wrong and what to do: no such zip, compressed records, a
    program that asks for anything but tensors, or one that does not fit the records.
    """
    entries = _from_zip(file, zipfile.ZipFile.infolist)
    _check_entries(entries, file.stat().st_size)
    program = _only_program(entries)
    root = program.filename.removesuffix("data.pkl")
    records = {
        entry.filename.removeprefix(f"{root}data/"): entry.file_size
        for entry in entries
        if entry.filename.startswith(f"{root}data/")
    }
    source = _from_zip(file, lambda archive: archive.read(program))
    storages = _storages(source)
    claimed = {key: numbers * _STORAGES[kind] for key, (kind, numbers) in storages.items()}
    if claimed != records:
        raise ValueError(f"does not hold the numbers that its tensors name; {_RESAVE}")
    numbers = sum(count for _, count in storages.values())
    return PickledSize(numbers, sum(records.values()))


def _from_zip(file: Path, read: Callable[[zipfile.ZipFile], _T]) -> _T:
    try:
        with zipfile.ZipFile(file) as archive:
            return read(archive)
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"is truncated, damaged or older than torch 1.6 ({error}); copy it again, or {_RESAVE}"
        ) from None


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse entries that would unfold to more than the file's bytes."""
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"is compressed, which torch.save never does; {_RESAVE}")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("is truncated or damaged (its parts overlap); copy it again")


def _only_program(entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    programs = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(programs) != 1:
        raise ValueError(f"is no state dict of torch.save; {_RESAVE}")
    if programs[0].file_size > _LONGEST_PROGRAM:
        raise ValueError(f"holds far more than a model's tensors; {_RESAVE}")
    return programs[0]


def _storages(program: bytes) -> dict[str, tuple[str, int]]:
    """Type and count of numbers of every storage that the program names, by its key."""
    storages: dict[str, tuple[str, int]] = {}
    for reference in _references(program):
        match reference:
            case ["storage", str(kind), str(key), str(_), int(numbers)] if (
                kind in _STORAGES and numbers >= 0
            ):
                if storages.setdefault(key, (kind, numbers)) != (kind, numbers):
                    raise ValueError(f"names one storage in two ways; {_RESAVE}")
            case _:
                raise ValueError(f"names a storage of no real numbers; {_RESAVE}")
    return storages


def _references(program: bytes) -> Iterator[list[Any]]:
    """The parts of each reference to a storage: what was pushed since the last mark before it."""
    memo: dict[int, Any] = {}
    pushed: list[Any] = []
    last: Any = None
    tuples = 0
    for operation, argument in _operations(program):
        if operation == "MARK":
            pushed = []
        elif operation in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = last
        elif operation in ("BINGET", "LONG_BINGET"):
            last = memo.get(argument)
            pushed.append(last)
        elif operation in _PUSHES or operation == "GLOBAL":
            last = argument
            pushed.append(last)
        elif operation == "BINPERSID":
            yield pushed
            last, pushed = None, []
        else:
            last = None
            tuples += operation in _TUPLES
        if tuples > _MOST_TUPLES:
            raise ValueError(f"holds far more than a model's tensors; {_RESAVE}")


def _operations(program: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each operation; refuses all that a dictionary of tensors does not need.

    Raises ValueError.
    """
    known = {"MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINPERSID"}
    known |= _PUSHES | _TUPLES | _OTHERS
    steps = pickletools.genops(program)
    while True:
        try:
            opcode, argument, _ = next(steps)
        except StopIteration:
            return
        except Exception:  # pickletools raises what its readers happen to meet in bytes of no sense
            raise ValueError("is truncated or damaged; copy it again") from None
        if opcode.name == "GLOBAL":
            if argument not in _GLOBALS:
                asked = str(argument)[:80].replace(" ", ".")
                raise ValueError(
                    f"asks for `{asked}`, which tensors do not need and is never run; {_RESAVE}, "
                    "its values as float32, bfloat16 or float16"
                )
        elif opcode.name not in known:
            raise ValueError(f"holds more than tensors by their names; {_RESAVE}")
        yield opcode.name, argument
