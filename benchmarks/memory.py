"""How much memory a call adds at its peak, measured in a process of its own.

`python -m benchmarks.memory MODULE:FUNCTION [NUMBER...]` prints it. Linux: the kernel keeps the
largest resident size of a process (VmHWM) and forgets it on request.
"""

import ctypes
import importlib
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.timing import THREADS

GB = 1e9


def peak_added(prepare: str, *numbers: int) -> float:
    """Bytes by which the resident size rises above what it was before the call, at most.

    prepare: "module:function"; the function, given the numbers, returns the call. What it has made
    until then is not counted, nor is what the libraries took at their start.
    """
    command = [sys.executable, "-m", "benchmarks.memory", prepare, *map(str, numbers)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr.strip()[-2000:]}")
    return float(done.stdout)


def main(prepare: str, *numbers: str) -> None:
    torch.set_num_threads(THREADS)
    module, _, function = prepare.partition(":")
    call = getattr(importlib.import_module(module), function)(*map(int, numbers))
    # What was freed on the way here would be used again without a trace.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_peak()
    call()
    sys.stdout.write(f"{_resident_peak() - before}\n")


def _resident_peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
