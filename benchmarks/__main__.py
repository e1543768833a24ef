"""Every benchmark in turn, each in a process of its own: `make bench`."""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = ("hidden_attention", "selective_scan", "figures", "known_answer")


def main() -> int:
    """Run all, print as they go, leave `results/<name>.json`; how many failed to run."""
    RESULTS.mkdir(exist_ok=True)
    failed = 0
    for name in BENCHMARKS:
        print(f"\n{name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", RESULTS / f"{name}.json"]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
