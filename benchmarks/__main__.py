"""`python -m benchmarks`: everything that is promised about speed, measured side by side.

Exit status: the number of benchmarks that failed to run. A promise that is missed is a result.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from benchmarks import document, plots, suite
from benchmarks.row import Verdict
from benchmarks.table import markdown_table, terminal_table

_WIDTH = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under two minutes: fewer rounds, some sizes reduced"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=suite.NAMES,
        metavar="NAME",
        help=f"one of {', '.join(suite.NAMES)}; repeat for several",
    )
    parser.add_argument(
        "--docs", action="store_true", help="also write table and plots into docs/performance.md"
    )
    parser.add_argument("--json", type=Path, default=suite.RESULTS / "bench.json")
    arguments = parser.parse_args()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    report = suite.begin(arguments.quick)
    for name, rows in suite.run(report, arguments.only or suite.names(arguments.quick)):
        if listed := [row for row in rows if not row.curve]:
            console.print(terminal_table(name, listed))
        if name in report.failed:
            console.print(f"[bold red]{name} failed to run: {report.failed[name]}[/]")
        # A run that is cut off leaves what it had.
        arguments.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(markdown_table(report.listed()))
    plots.draw(report.points(), arguments.json.parent)
    if arguments.docs:
        document.write(report)
    counted = Counter(row.verdict for row in report.listed())
    told = ", ".join(
        f"{counted[verdict]} {verdict}" for verdict in Verdict if counted[verdict] and verdict
    )
    console.print(
        f"{told or 'no row has a promise'}. Load {report.load_at_start[0]:.1f} at the start, "
        f"{(report.load_at_end or report.load_at_start)[0]:.1f} at the end. {arguments.json}"
    )
    return len(report.failed)


if __name__ == "__main__":
    sys.exit(main())
