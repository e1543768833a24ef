"""What a run leaves in docs/performance.md."""

from pathlib import Path

import pytest

from benchmarks import blocks, document, suite
from benchmarks.row import Promise, Row, Spread

CURVES = [
    Row(
        line, measured=Spread(at / 1e3, at / 2e3, at / 5e2), unit="s", curve=f"{kind}-tokens", at=at
    )
    for kind, line in (("time", "ours"), ("memory", "ours"), ("memory", "materialised (computed)"))
    for at in (128, 256)
]


def report() -> suite.Report:
    made = suite.begin(quick=True)
    listed = Row("a matrix", measured=Spread.of([0.5]), promise=Promise("<=", 2.0))
    made.rows = {"matrix": [listed], "curves": CURVES}
    return made


def test_the_table_replaces_the_last_one_and_the_plots_stand_beside_the_page(
    tmp_path: Path,
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{document.BEGIN}an old table\n{document.END}after\n")
    for _ in range(2):
        document.write(report(), page)
    text = page.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("-->\nafter\n")
    assert "old table" not in text
    assert text.count("| a matrix | ≤ 2x | 0.5x |") == 1
    assert "A quick run of" in text
    assert "(images/performance-tokens.png)" in text
    assert "performance-texts" not in text
    drawn = tmp_path / "images" / "performance-tokens.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_that_failed_is_told(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(document.BEGIN + document.END)
    made = report()
    made.failed["api"] = "ended with 1"
    document.write(made, page)
    assert "`api` failed to run: ended with 1." in page.read_text()


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no"):
        document.write(report(), page)
    assert page.read_text() == "nothing"


def test_the_page_of_the_project_has_its_marks() -> None:
    assert document.BEGIN in document.PAGE.read_text()
    assert document.END in document.PAGE.read_text()


def test_merges_cover_every_pair_of_panels_once() -> None:
    panels = 16
    pairs = [
        (query, key)
        for _, start, size in blocks.merges(panels)
        for key in range(start, start + size)
        for query in range(start + size, start + 2 * size)
    ]
    assert sorted(pairs) == [(t, s) for t in range(panels) for s in range(t)]
