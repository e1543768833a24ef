"""The versions of everything that a result's numbers may depend on."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

_LIBRARIES = (
    "mambascope",
    "matplotlib",
    "numba",
    "numpy",
    "safetensors",
    "tokenizers",
    "transformers",
)


@cache
def versions() -> dict[str, str]:
    """Python's and each library's version; a checkout that is not installed has `0+source`."""
    # torch's own word also names its build, `2.13.0+cpu` say, which its package's version may not.
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "0+source"
    return found
