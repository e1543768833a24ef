"""The versions of everything that a result's numbers may depend on."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = (
    "mambascope",
    "matplotlib",
    "numba",
    "numpy",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


@cache
def versions() -> dict[str, str]:
    """Python's and each library's version; a checkout that is not installed has `0+source`."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "0+source"
    return found
