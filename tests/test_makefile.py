"""The Makefile's own paths: a recipe that is run once a year rots unseen."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_path_of_tests_in_a_recipe_exists() -> None:
    named = re.findall(r"\btests/[\w./]+", (ROOT / "Makefile").read_text())
    assert len(named) > 3
    assert [path for path in named if not (ROOT / path).exists()] == []
