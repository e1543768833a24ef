"""What a job is foretold to draw, against what it draws."""

from pathlib import Path
from typing import Any

import pytest

from schemas.names import ArtifactKind
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.tiny_models import save_gpt2, save_mamba
from tests.workers.bench import TEXTS, Bench
from workers.forecasting.gallery import Gallery
from workers.forecasting.planning import plan


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With two models of random weights."""
    save_mamba(tmp_path / "models" / "tiny", bias=True)
    save_gpt2(tmp_path / "models" / "other")
    return settings.model_copy(update={"model_dir": tmp_path / "models", "device": "cpu"})


def foretold(settings: Settings, processes: int = 1, **fields: Any) -> Gallery:
    request = JobRequest.model_validate({"models": ["tiny"], "texts": TEXTS} | fields)
    return plan(request, settings, [], processes).gallery


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"texts": TEXTS[:1], "layers": "all"},
        {"attention": None},
        {"neurons": None},
        {"figures": False},
        {"models": ["tiny", "other"], "texts": [*TEXTS, "w1 w2"], "universality": {}},
        {"perturbation": {"sets": [{"found_by": "variance"}]}},
    ],
)
def test_as_many_figures_are_foretold_as_are_drawn(
    bench: Bench, settings: Settings, fields: dict[str, Any]
) -> None:
    artifacts = bench.run(**fields).artifacts
    drawn = [artifact.shows for artifact in artifacts if artifact.kind is ArtifactKind.FIGURE]
    known = foretold(settings, **fields)
    assert known.figures == len(drawn)
    assert known.seconds == pytest.approx(sum(map(known.seconds_of, drawn)))


def test_longer_texts_and_more_of_them_take_longer(settings: Settings) -> None:
    short, long = (foretold(settings, texts=["w1 " * count]) for count in (2, 9))
    assert short.seconds < long.seconds
    assert short.figures == long.figures


def test_the_last_text_is_drawn_late_and_so_are_models_side_by_side(settings: Settings) -> None:
    one, three = (foretold(settings, texts=TEXTS[:count]) for count in (1, 3))
    assert one.last + one.final == pytest.approx(one.seconds)
    assert three.last + three.final < 0.6 * three.seconds
    assert foretold(settings, models=["tiny", "other"]).final > three.final


def test_what_cannot_be_read_is_foretold_to_draw_nothing(settings: Settings) -> None:
    assert foretold(settings, models=["nobody"]) == Gallery()


def test_more_processes_take_less_time(settings: Settings) -> None:
    one, two = (foretold(settings, processes) for processes in (1, 2))
    assert (one.figures, one.seconds, one.last) == (two.figures, 2 * two.seconds, 2 * two.last)
