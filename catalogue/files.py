"""The files of a model directory that are known by name, and in which format its config is."""

import errno
import json
from pathlib import Path

from catalogue.native import is_native

CONFIG_FILE = "config.json"
# The weights of a directory in mamba_ssm's own format.
CHECKPOINT_FILE = "pytorch_model.bin"


Stamp = tuple[int, int, int] | None
"""What changes with a file's contents; None of one that is not there."""


def stamp(path: Path) -> Stamp:
    """Which file it is, its size and its time."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_file(path: Path) -> bool:
    """Whether a file is there; not for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_file(path: Path) -> bytes:
    """What a file holds. Raises OSError, also for what is no file: a pipe would never end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    return path.read_bytes()


def is_native_directory(path: Path) -> bool:
    """Whether the config of a model directory is mamba_ssm's own; one that cannot be read is not.

    Costs one read of config.json.
    """
    try:
        return is_native(json.loads(read_file(path / CONFIG_FILE)))
    except (OSError, ValueError, RecursionError):
        return False
