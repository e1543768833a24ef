"""The files of a model directory that are known by name, and in which format its config is."""

import json
from pathlib import Path

from catalogue.native import is_native

CONFIG_FILE = "config.json"
# The weights of a directory in mamba_ssm's own format.
CHECKPOINT_FILE = "pytorch_model.bin"


def is_native_directory(path: Path) -> bool:
    """Whether the config of a model directory is mamba_ssm's own; one that cannot be read is not.

    Costs one read of config.json.
    """
    try:
        return is_native(json.loads((path / CONFIG_FILE).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False
