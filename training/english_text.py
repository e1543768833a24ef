"""The King James Bible as plain text, out of Debian's package `bible-kjv-text`.

Needs a Debian or Ubuntu with `apt-get` (package lists updated), `dpkg-deb` and `gzip`; nothing is
installed, and what is fetched goes to a temporary directory. The package keeps one file,
`usr/lib/bible.data`: a header, an index of offsets, then a stream of compress(1), which gzip reads:
one line of title, then one verse a line, as `Ge1:1 In the beginning ...`. The text's copyright is
expired, says the package's own copyright file; its translators published it in 1611.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "bible-kjv-text"
# Books of six kinds, none of which another book retells, unlike Kings or three of the gospels.
HELD_OUT = {
    "Ruth": "Ruth",
    "Est": "Esther",
    "Eccl": "Ecclesiastes",
    "Hos": "Hosea",
    "Jonah": "Jonah",
    "Jas": "James",
    "Rev": "Revelation",
}
_DATA_FILE = "usr/lib/bible.data"
_COMPRESS_MAGIC = b"\x1f\x9d"
_VERSES = 31_102
_REFERENCE = re.compile(r"(\d?[A-Za-z]+)\d+:\d+ (.+)")


class TextUnavailableError(Exception):
    """The package cannot be had here, or is not what this script knows; says why."""


@dataclass(frozen=True)
class EnglishText:
    """One string a book, a verse a line without its number; `training` in the Bible's order."""

    training: list[str]
    held_out: dict[str, str]
    """By the book's full name."""
    version: str
    """Of the Debian package."""

    @property
    def training_bytes(self) -> bytes:
        """All training books in one."""
        return "".join(self.training).encode()

    @property
    def held_out_bytes(self) -> bytes:
        """All held-out books in one."""
        return "".join(self.held_out.values()).encode()


def english_text() -> EnglishText:
    """Fetch the package and split its books.

    Raises TextUnavailableError: a tool or the package is missing, or its contents are not as
    described above.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # apt-get drops root for its download and could not write into a private directory.
        folder.chmod(0o755)
        _command(["apt-get", "download", PACKAGE], "fetches the text", folder)
        (package,) = folder.glob("*.deb")
        field = ["dpkg-deb", "--field", package.name, "Version"]
        version = _command(field, "names the version", folder)
        _command(["dpkg-deb", "--extract", package.name, "files"], "unpacks it", folder)
        lines = _verses(folder / "files" / _DATA_FILE)
    return EnglishText(
        training=[text for book, text in lines.items() if book not in HELD_OUT],
        held_out={name: lines[book] for book, name in HELD_OUT.items()},
        version=version.decode().strip(),
    )


def books(lines: str) -> dict[str, str]:
    """Lines such as `Ge1:1 In the beginning ...` by book, each verse a line without its number."""
    found: dict[str, str] = {}
    for line in lines.splitlines():
        verse = _REFERENCE.fullmatch(line)
        if verse is None:
            raise TextUnavailableError(f"this line is no verse: {line[:60]!r}")
        found[verse[1]] = found.get(verse[1], "") + verse[2].strip() + "\n"
    return found


def printed(data: bytes) -> str:
    """What the package's data file holds: a line of title, then one verse a line.

    Raises TextUnavailableError: it is no such file, or gzip cannot read it.
    """
    start = data.find(_COMPRESS_MAGIC)
    if start < 0:
        raise TextUnavailableError(f"{_DATA_FILE} holds no stream of compress(1)")
    return _command(["gzip", "-dc"], "decompresses it", stdin=data[start:]).decode("ascii")


def _verses(data_file: Path) -> dict[str, str]:
    if not data_file.is_file():
        raise TextUnavailableError(f"{PACKAGE} has no {_DATA_FILE}")
    _title, _, lines = printed(data_file.read_bytes()).partition("\n")
    found = books(lines)
    verses = sum(text.count("\n") for text in found.values())
    if verses != _VERSES or not found.keys() >= HELD_OUT.keys():
        raise TextUnavailableError(f"{_DATA_FILE} is not the {_VERSES} verses of the Bible")
    return found


def _command(
    arguments: list[str], purpose: str, folder: Path | None = None, stdin: bytes | None = None
) -> bytes:
    """What a command prints, run in `folder`."""
    try:
        done = subprocess.run(
            arguments, cwd=folder, input=stdin, capture_output=True, check=True, timeout=300
        )
    except FileNotFoundError:
        raise TextUnavailableError(
            f"`{arguments[0]}`, which {purpose}, is missing; run this on Debian or Ubuntu"
        ) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-300:]
        raise TextUnavailableError(f"`{' '.join(arguments)}` failed: {said}") from None
    return done.stdout
