"""Passes that begin at a layer run no layer below it, and leave the model as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.names import Intervening
from schemas.sections import Intervention
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import one_thread, save_gpt2, save_mamba
from tests.workers.experiments.models import MIXER, loaded_from, pool_of
from tests.workers.experiments.test_listening import REQUESTS, conditions, listener
from workers.experiments.listening import Texts
from workers.experiments.streams import BY_STREAM, begins_at, layers_by_stream
from workers.models.loading import LoadedModel

ZERO = [Intervention(kind=Intervening.ZERO)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(params=[save_mamba, save_gpt2])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    return loaded_from(tmp_path, request.param)


@pytest.mark.parametrize(("layer", "room", "runs"), [(1, 1 << 30, 1), (1, 1, 5), (0, 1 << 30, 2)])
def test_layers_below_the_changed_ones_run_once(
    loaded: LoadedModel, layer: int, room: int, runs: int
) -> None:
    seen: list[int] = []
    lowest = pool_of(loaded)[0].projection
    hook = lowest.register_forward_pre_hook(lambda _, args: seen.append(0))
    each = conditions([{(layer, MIXER): [index]} for index in range(4)])
    listener(loaded, room).listen(Texts(REQUESTS[:1]), ZERO, each)
    hook.remove()
    # Unchanged; and then of four conditions together, or without room one by one.
    assert len(seen) == runs
    assert all("forward" not in vars(module) for module in loaded.model.modules())
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_a_pass_that_fails_leaves_the_model_as_it_was(loaded: LoadedModel) -> None:
    each = conditions([{(1, MIXER): [10_000]}])
    with pytest.raises(IndexError):
        listener(loaded).listen(Texts(REQUESTS[:1]), ZERO, each)
    assert all("forward" not in vars(module) for module in loaded.model.modules())
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


def test_all_that_begin_at_a_layer_are_tried() -> None:
    assert set(ARCHITECTURES) >= BY_STREAM


def test_layers_of_unknown_models_all_run(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, ARCHITECTURES["bamba"][0])
    assert layers_by_stream(loaded.model) == []


def test_a_pass_begins_at_the_highest_layer_that_it_can() -> None:
    kept = dict.fromkeys((2, 5), REQUESTS)
    assert [begins_at(kept, lowest) for lowest in (0, 1, 2, 4, 5, 9)] == [0, 0, 2, 2, 5, 5]  # type: ignore[arg-type]
