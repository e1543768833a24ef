"""Writes what a run has measured into docs/performance.md: the table and the plots."""

from pathlib import Path

from benchmarks import plots
from benchmarks.suite import Report
from benchmarks.table import markdown_table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def write(report: Report, page: Path = PAGE) -> None:
    """Replace what stands between the marks, and draw the plots beside the page.

    Raises ValueError: the page has no marks.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN.strip()} ... {END.strip()}")
    images = plots.draw(report.points(), page.parent / "images")
    page.write_text(before + begin + _measured(report, images) + end + after)


def _measured(report: Report, images: list[Path]) -> str:
    on = report.machine
    end = report.load_at_end or report.load_at_start
    kind = "A quick run" if report.quick else "A whole run"
    facts = (
        f"{kind} of {report.began[:10]} at revision {on['revision']}: {on['cores']} cores of an "
        f"{on['cpu']}, {on['memory_bytes'] / 2**30:.0f} GiB, torch {on['versions']['torch']}, "
        f"transformers {on['versions']['transformers']}; load {report.load_at_start[0]:.1f} at the "
        f"start, {end[0]:.1f} at the end. Medians, in brackets the smallest and the largest."
    )
    shown = [f"![{image.stem}](images/{image.name})" for image in images]
    failed = [f"`{name}` failed to run: {why}." for name, why in report.failed.items()]
    parts = [facts, *failed, markdown_table(report.listed()).rstrip(), *shown]
    return "\n" + "\n\n".join(parts) + "\n\n"
