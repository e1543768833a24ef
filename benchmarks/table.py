"""The rows as a table: in a terminal of 100 columns, and as Markdown."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from benchmarks.row import Row, Spread, Verdict

_STYLES = {
    Verdict.MET: "green",
    Verdict.MISSED: "bold red",
    Verdict.REDUCED: "yellow",
    Verdict.UNMEASURED: "bold yellow",
    Verdict.NONE: "",
}
_HEADINGS = ("what", "promise", "measured", "ours", "other", "")
_RELATIONS = {"<=": "≤", "<": "<", ">=": "≥"}


def terminal_table(title: str, rows: Sequence[Row]) -> Table:
    """One block a row: what, against what and any note on the left, its numbers on the right."""
    table = Table(title=title, title_justify="left", padding=(0, 1), show_lines=True)
    for heading in _HEADINGS:
        numeric = heading in ("promise", "measured", "ours", "other")
        table.add_column(
            heading, justify="right" if numeric else "left", no_wrap=heading == "promise"
        )
    for row in rows:
        what = "\n".join(part for part in (row.what, *_told(row), row.note) if part)
        style = _STYLES[row.verdict]
        verdict = f"[{style}]{row.verdict}[/]" if style else ""
        table.add_row(escape(what), *_numbers(row, "\n"), verdict)
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The same as a Markdown table; notes are numbered below it."""
    lines = ["| what | promise | measured | ours | other | |", "|---|---|---|---|---|---|"]
    notes: list[str] = []
    for row in rows:
        what = " ".join((row.what, *_told(row)))
        if row.note:
            if row.note not in notes:
                notes.append(row.note)
            what += f" [{notes.index(row.note) + 1}]"
        lines.append(f"| {' | '.join((what, *_numbers(row, ' '), row.verdict.value))} |")
    listed = [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join([*lines, *([""] if listed else []), *listed]) + "\n"


def quantity(value: float, unit: str) -> str:
    """Three significant digits and a unit that suits them: 0.00123 s is 1.23 ms."""
    if unit == "s" and value < 0.9995:
        value, unit = (value * 1e3, "ms") if value >= 0.9995e-3 else (value * 1e6, "µs")
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{digits}x" if unit == "x" else f"{digits} {unit}".strip()


def _told(row: Row) -> list[str]:
    """Against what, and where the promise speaks of more than was measured."""
    against = [f"against {row.against}"] if row.against else []
    return against + ([f"(promised at {row.promised_at})"] if row.promised_at else [])


def _numbers(row: Row, between: str) -> tuple[str, str, str, str]:
    promise = ""
    if row.promise is not None:
        relation = _RELATIONS[row.promise.relation]
        promise = f"{relation} {quantity(row.promise.bound, row.unit)}"
    return (
        promise,
        "" if row.measured is None else _spread(row.measured, row.unit, between),
        "" if row.ours is None else quantity(row.ours.median, row.timed_in),
        "" if row.other is None else quantity(row.other.median, row.timed_in),
    )


def _spread(spread: Spread, unit: str, between: str) -> str:
    middle = quantity(spread.median, unit)
    if spread.low == spread.high:
        return middle
    return f"{middle}{between}({quantity(spread.low, unit)} to {quantity(spread.high, unit)})"
