"""How much memory this worker's machine has for a job, and that what is freed is given back."""

import ctypes
import sys
from pathlib import Path

import structlog
import torch

from schemas.settings import Settings

# Where a container's limit stands: version 2, then version 1 of control groups.
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_ROOT = Path("/")
# Names of glibc's mallopt, and bytes. Blocks from the second on are mapped one by one.
_TRIM_THRESHOLD, _KEPT_ON_TOP = -1, 64 << 20
_MMAP_THRESHOLD, _MAPPED = -3, 1 << 20

log = structlog.get_logger("workers.memory")


def fit(settings: Settings, device: torch.device) -> Settings:
    """The settings with a budget per job that is no larger than what is there; logs a smaller one.

    A worker's own libraries leave less than the whole of a machine; on a GPU they count little.
    """
    there = on_device(device) if device.type == "cuda" else on_machine() - resident()
    if there >= settings.job_memory_bytes:
        return settings
    log.warning(
        "less memory here than MAMBASCOPE_JOB_MEMORY_BYTES: the smaller number holds",
        job_memory_bytes=settings.job_memory_bytes,
        here=there,
        device=str(device),
    )
    return settings.model_copy(update={"job_memory_bytes": max(1, there)})


def give_back_freed_blocks() -> bool:
    """Have the system take large blocks back when they are freed; False where this is not glibc.

    By itself glibc raises the size from which blocks are mapped to 32 MiB once one was freed. Then
    a long text's activations share the heap with the small tensors that outlive them, and what is
    freed between these stays: memory grows with the text. Costs the page faults of new mappings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # Either of them ends the raising.
    return bool(mallopt(_MMAP_THRESHOLD, _MAPPED) and mallopt(_TRIM_THRESHOLD, _KEPT_ON_TOP))


def on_device(device: torch.device) -> int:
    """Bytes of a GPU's memory."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def on_machine(root: Path = _ROOT) -> int:
    """Bytes of main memory that this process may use: the machine's, or its container's if less."""
    limits = [int(_field(root / "proc/meminfo", "MemTotal")) * 1024]
    for name in _LIMITS:
        try:
            limits.append(int((root / name).read_text()))
        except (OSError, ValueError):  # no such file, or the word `max`
            continue
    return min(limits)


def resident(root: Path = _ROOT) -> int:
    """Bytes of main memory that this process holds now."""
    return int(_field(root / "proc/self/status", "VmRSS")) * 1024


def _field(file: Path, name: str) -> str:
    """The number of a line `name:  number kB`."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.split()[0]
    raise LookupError(f"{file} has no {name}")
