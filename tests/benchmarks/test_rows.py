"""What a row says of its promise, and how rows are shown and stored."""

import json

import pytest
from rich.console import Console

from benchmarks.row import Promise, Row, Spread, Verdict
from benchmarks.table import markdown_table, quantity, terminal_table
from benchmarks.timing import Contest, Effort, take_turns, timed

WIDTH = 100


def row(value: float, promise: Promise | None, **more: object) -> Row:
    return Row("a thing", measured=Spread.of([value]), promise=promise, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("relation", "value", "verdict"),
    [
        ("<=", 2.0, Verdict.MET),
        ("<=", 2.01, Verdict.MISSED),
        ("<", 2.0, Verdict.MISSED),
        ("<", 1.99, Verdict.MET),
        (">=", 2.0, Verdict.MET),
        (">=", 1.99, Verdict.MISSED),
        ("<=", float("nan"), Verdict.MISSED),
        (">=", float("nan"), Verdict.MISSED),
    ],
)
def test_a_promise_is_met_within_its_bound(relation: str, value: float, verdict: Verdict) -> None:
    assert row(value, Promise(relation, 2.0)).verdict is verdict  # type: ignore[arg-type]


def test_only_what_was_measured_at_its_size_can_be_met() -> None:
    promise = Promise("<=", 2.0)
    assert Row("a thing", promise=promise, note="no such library").verdict is Verdict.UNMEASURED
    assert row(1.0, promise, promised_at="L=4096").verdict is Verdict.REDUCED
    assert row(1.0, None).verdict is Verdict.NONE


def test_a_contest_judges_the_median_of_the_rounds_own_ratios() -> None:
    slower = Contest("a thing", "another", Promise("<=", 2.0)).judged(
        [1.0, 9.0, 3.0], [1.0, 3.0, 2.0]
    )
    assert slower.measured == Spread(median=1.5, low=1.0, high=3.0)
    assert slower.ours == Spread(3.0, 1.0, 9.0)
    faster = Contest("a thing", "another", Promise(">=", 2.0)).judged([1.0, 2.0], [4.0, 6.0])
    assert faster.measured == Spread(3.5, 3.0, 4.0)
    assert faster.verdict is Verdict.MET
    assert faster.samples == {"ours": [1.0, 2.0], "other": [4.0, 6.0]}


def test_without_a_promise_a_contest_says_which_way_its_ratio_goes() -> None:
    grown = Contest("twice the length", "once", less_is_better=True).judged([4.0], [2.0])
    assert grown.measured == Spread.of([2.0])
    assert Contest("a thing", "another").judged([4.0], [2.0]).measured == Spread.of([0.5])
    promised = Contest("a thing", "another", Promise(">=", 1.0), less_is_better=True)
    assert promised.judged([4.0], [2.0]).verdict is Verdict.MISSED


def test_a_share_is_scaled() -> None:
    contest = Contest("a thing", "another", Promise(">=", 10.0), scale=1000.0)
    found = contest.between(lambda: sum(range(1000)), lambda: sum(range(1000)), Effort(3, 10.0))
    assert found.ours is not None
    assert found.other is not None
    # The two are the same work; only the scale can make a hundredfold difference.
    assert found.other.median > 100 * found.ours.median


def test_contenders_take_turns_in_changing_order_after_one_call_that_is_not_counted() -> None:
    calls: list[str] = []

    def contender(name: str, seconds: float) -> object:
        def call() -> float:
            calls.append(name)
            return seconds

        return call

    found = take_turns({"a": contender("a", 1.0), "b": contender("b", 2.0)}, Effort(3, 60.0))  # type: ignore[dict-item]
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_what_is_warm_is_not_run_once_more() -> None:
    calls: list[int] = []
    take_turns({"a": timed(lambda: calls.append(1))}, Effort(2, 60.0, warm=True))
    assert len(calls) == 2


def test_no_round_begins_after_the_time_is_up_but_one_is_made() -> None:
    found = take_turns({"a": timed(lambda: None)}, Effort(rounds=5, seconds=0.0))
    assert len(found["a"]) == 1
    assert found["a"][0] >= 0


def test_rows_come_back_from_json() -> None:
    full = Contest("a thing", "another", Promise(">=", 2.0), note="a note").judged([1.0], [4.0])
    for written in (full, row(1.0, None), Row("a thing", promise=Promise("<", 1.0))):
        stored = json.loads(json.dumps(written.to_json()))
        assert stored["verdict"] == written.verdict
        assert Row.from_json(stored) == written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "x", "0.5x"),
        (402.4, "x", "402x"),
        (1234.5, "x", "1,234x"),
        (0.00123, "s", "1.23 ms"),
        (12.345, "s", "12.3 s"),
        (0.9999, "s", "1 s"),
        (0.0000041, "s", "4.1 µs"),
        (0.1, "GB", "0.1 GB"),
    ],
)
def test_quantities_have_three_digits_and_a_fitting_unit(
    value: float, unit: str, text: str
) -> None:
    assert quantity(value, unit) == text


ROWS = [
    Contest("matrix, L=1024", "one sgemm", Promise("<=", 2.0)).judged([1.0, 1.1], [2.0, 2.1]),
    Contest("matrix, L=512", "the other way", Promise(">=", 150), note="on a share").judged(
        [1.0], [3.0]
    ),
    Row(
        "memory of a [bracketed] thing", promise=Promise("<", 1.0), unit="GB", note="no /proc here"
    ),
    Contest("a smaller thing", "another", Promise(">=", 2.0), promised_at="L=4096").judged(
        [1.0], [9.0]
    ),
]


def test_the_terminal_table_fits_and_says_what_was_met() -> None:
    console = Console(width=WIDTH)
    with console.capture() as captured:
        console.print(terminal_table("a benchmark", ROWS))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= WIDTH
    shown = captured.get()
    for told in (
        "≤ 2x",
        "0.512x",
        "met",
        "missed",
        "reduced",
        "(promised at L=4096)",
        "measured",
        "[bracketed]",
    ):
        assert told in shown


def test_the_markdown_table_has_a_line_a_row_and_numbers_its_notes() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert [line.count("|") for line in lines[:6]] == [7] * 6
    assert lines[2].startswith(
        "| matrix, L=1024 against one sgemm | ≤ 2x | 0.512x (0.5x to 0.524x) |"
    )
    assert lines[2].endswith("| met |")
    assert lines[3].startswith("| matrix, L=512 against the other way [1] |")
    assert lines[4].endswith("| not measured |")
    assert lines[7:] == ["1. on a share", "2. no /proc here"]
