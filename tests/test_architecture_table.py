"""The table of docs/architectures.md, measured again."""

from pathlib import Path

import pytest

from schemas.names import Mixer
from tests.architecture_table import COLUMNS, measure, worst
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import one_thread

TABLE = Path(__file__).parents[1] / "docs" / "architectures.md"
# Rebuilding is promised to 1e-4. The others are float32 against float64: sums over the channels of
# numbers that partly cancel, the deviations' twice.
REBUILT, SUMS, DEVIATIONS = 1e-4, 2e-5, 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_agrees_with_explicit_references(name: str, tmp_path: Path) -> None:
    save, mixers = ARCHITECTURES[name]
    with one_thread():
        found = measure(save, tmp_path)
    carried = {layer: family for layer, (family, _) in found.items()}
    assert carried == {k: family for k, family in enumerate(mixers) if family != Mixer.NONE}
    errors = worst(found)
    assert errors.reconstruction < REBUILT
    assert max(errors.matrix, errors.row, errors.gradient) < SUMS
    assert errors.moments < DEVIATIONS
    # What is far away must count, or no kernel's larger blocks have been seen.
    distant = [e.remembered for family, e in found.values() if family is not Mixer.SOFTMAX]
    assert all(remembered > 1e-3 for remembered in distant)
    kinds, *cells = _stated()[name]
    assert kinds == ", ".join(dict.fromkeys(mixers))
    for column, cell in zip(COLUMNS, cells, strict=True):
        # Rounding differs between processors; that of the smallest errors is a matter of luck.
        stated, measured = (max(e, 1e-7) for e in (float(cell), getattr(errors, column)))
        assert stated / 10 <= measured <= 10 * stated


def test_the_table_names_them_all() -> None:
    assert list(_stated()) == list(ARCHITECTURES)


def _stated() -> dict[str, list[str]]:
    """The cells of the table's rows behind their architecture, by that."""
    _, table = TABLE.read_text().split("## How exact")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {name.strip("`"): cells for name, *cells in rows}
