"""After `warm_up` no job waits for the compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

import workers

SCRIPT = """
import gc
from numba.core.dispatcher import Dispatcher
from workers.kernels.warm import warm_up

def compiled():
    return {
        (kernel.py_func.__module__, kernel.py_func.__qualname__): len(kernel.signatures)
        for kernel in gc.get_objects()
        if isinstance(kernel, Dispatcher) and kernel.py_func.__module__.startswith("workers.")
    }

warm_up()
before = compiled()

from benchmarks.known_answer import peaks
from benchmarks.neurons import read
from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL
from schemas.settings import Settings
from training.recall_data import recall_prompts
from workers.mixers.sites import sites_of
from workers.models.loading import load

settings = Settings()
peaks(load(locate(DEFAULT_MODEL, settings), settings), recall_prompts(0, 1, 8), layer=1)
for name in ("pocket/recall-mamba", "pocket/recall-mamba2"):
    loaded = load(locate(name, settings), settings)
    read(loaded, [[1, 2, 3], [4]], sites_of(loaded.model, [0, 1]))
after = compiled()
late = {kernel for kernel, count in after.items() if before.get(kernel) != count}
print(len(after), "kernels; compiled late:", late)
assert after and not late, late
"""


def test_a_job_compiles_nothing_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_edited_helper_makes_compiled_code_stale(tmp_path: Path) -> None:
    package = tmp_path / "workers"
    shutil.copytree(Path(workers.__file__).parent / "kernels", package / "kernels")
    (package / "__init__.py").touch()
    command = [
        sys.executable,
        "-c",
        "import workers.kernels; from numba import config; print(config.CACHE_DIR)",
    ]

    def folder() -> str:
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, check=True
        ).stdout.decode()

    before = folder()
    assert folder() == before
    with (package / "kernels" / "_simd.py").open("a") as source:
        source.write("# edited\n")
    assert folder() != before
