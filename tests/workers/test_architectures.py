"""Every architecture, from disk to its readings: what all must show, whatever their mixer."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from catalogue.memory import is_plausible
from schemas.names import Method, Mixer
from schemas.sections import Rows
from schemas.settings import Settings
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import one_thread
from workers.analyses.maps import MethodMaps, ReadingPlan
from workers.analyses.methods import read_layers
from workers.mixers import mixers_of
from workers.models.loading import LoadedModel, load
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace

TOLERANCE = 1e-4
TEXTS = (TraceRequest(tuple(range(1, 40)), position=-3), TraceRequest((7, 3, 7)))
Case = tuple[LoadedModel, list[Mixer]]
Maps = dict[tuple[int, Method], MethodMaps]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    save, families = ARCHITECTURES[request.param]
    root = tmp_path_factory.mktemp("models")
    save(root / "model")
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings), families


@pytest.fixture(scope="module")
def traced(case: Case) -> list[TextTrace]:
    every = {layer for layer, family in enumerate(case[1]) if family is not Mixer.NONE}
    return trace(case[0], TEXTS, every, every)


def _read(traced: TextTrace, rows: Rows, **plan: Any) -> Maps:
    """Every method's maps of every layer."""
    wanted = ReadingPlan(
        layers=frozenset(traced.mixers),
        methods=list(Method),
        position=traced.target.position,
        tolerance=TOLERANCE,
        rows=dict.fromkeys(Method, rows),
        **plan,
    )
    readings = list(read_layers(traced.mixers, wanted))
    return {(r.layer, method): maps for r in readings for method, maps in r.maps.items()}


def _close(ours: Tensor, wanted: Tensor) -> None:
    largest = float(wanted.abs().max())
    assert float((ours - wanted).abs().max()) <= 2e-5 * largest


def test_the_config_tells_what_is_loaded(case: Case, traced: list[TextTrace]) -> None:
    described = case[0].description
    assert [layer.mixer for layer in described.layers] == case[1]
    assert is_plausible(described)
    for layer, mixer in traced[0].mixers.items():
        assert described.layers[layer].channels == mixer.channels


def test_every_layer_is_rebuilt(case: Case, traced: list[TextTrace]) -> None:
    for text in traced:
        assert [*text.mixers] == [k for k, family in enumerate(case[1]) if family != Mixer.NONE]
        for layer in text.mixers:
            found = text.mixers[layer]
            assert found.family is case[1][layer]
            assert float(found.summary().reconstruction_error) < TOLERANCE


@pytest.mark.parametrize("clamp", [True, False])
def test_the_targets_row_is_the_matrixs(traced: list[TextTrace], clamp: bool) -> None:
    for text in traced:
        rows = _read(text, "target", rollout_clamp=clamp)
        matrices = _read(text, "all", rollout_clamp=clamp)
        for at, maps in matrices.items():
            _close(rows[at].matrix[0], maps.matrix[text.target.position])
            _close(rows[at].token_relevance, maps.token_relevance)
            assert float(maps.row_sum_error) < TOLERANCE


def test_the_gradient_is_that_of_a_small_step(case: Case, traced: list[TextTrace]) -> None:
    """A step on the mixer's output along the gradient moves the target by what it promises."""
    loaded, text = case[0], traced[0]
    layer = [*text.mixers][-2]
    gradient = text.mixers[layer].capture.gradient()  # type: ignore[attr-defined]
    step = 1e-3 / gradient.norm()
    change = (_value(loaded, text, layer, step * gradient) - text.value) / step
    assert change == pytest.approx(float(gradient.square().sum()), rel=2e-2)


def _value(loaded: LoadedModel, text: TextTrace, layer: int, added: Tensor) -> float:
    """The target where `added` (l, m) is added to one mixer's output."""

    def add(module: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + added, *output[1:])
        return output + added

    hook = mixers_of(loaded.model)[layer].register_forward_hook(add)
    try:
        with torch.no_grad():
            ids = torch.tensor([text.ids])
            logits = loaded.model(input_ids=ids, use_cache=False).logits[0, text.target.position]
    finally:
        hook.remove()
    return float(logits[text.target.token])
