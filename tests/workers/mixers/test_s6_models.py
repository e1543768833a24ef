"""Whole models of the S6 family from disk, traced in their own blocks, whatever else these hold."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.names import Mixer
from schemas.settings import Settings
from tests.tiny_architectures import save_falcon_mamba, save_jamba, save_zamba
from workers.mixers import mixers_of
from workers.mixers.protocol import Weighting
from workers.models.loading import LoadedModel, load
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace

# Layer 2 of the Jamba is an attention layer, layers 1 and 3 of the Zamba are hybrid.
MODELS: dict[str, tuple[Callable[..., Path], list[int]]] = {
    "falcon_mamba": (save_falcon_mamba, [0, 1, 2]),
    "jamba": (save_jamba, [0, 1, 3]),
    "zamba": (save_zamba, [0, 1, 2, 3]),
}
IDS = tuple(range(1, 31))
REQUEST = TraceRequest(IDS, position=-4, token=11, contrast=2)


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(name: str, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    root = tmp_path_factory.mktemp("models")
    MODELS[name][0](root / "model")
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings)


@pytest.fixture(scope="module")
def traced(name: str, loaded: LoadedModel) -> TextTrace:
    layers = set(MODELS[name][1])
    return trace(loaded, [REQUEST, TraceRequest((3, 1, 4), text=1)], layers, layers)[0]


def _s6_mixers(model: Any) -> dict[int, Any]:
    """The mixers without the attention layers between them."""
    found = mixers_of(model)
    return {k: module for k, module in found.items() if "Attention" not in type(module).__name__}


def test_a_mixer_has_the_number_of_the_layer_that_it_lies_in(
    name: str, loaded: LoadedModel
) -> None:
    found = _s6_mixers(loaded.model)
    assert list(found) == MODELS[name][1]
    for layer, module in found.items():
        assert module in list(loaded.model.base_model.layers[layer].modules())


def test_every_layer_is_rebuilt(name: str, traced: TextTrace) -> None:
    for layer in MODELS[name][1]:
        mixer = traced.mixers[layer]
        assert (mixer.layer, mixer.family, mixer.length) == (layer, Mixer.S6, len(IDS))
        summary = mixer.summary(list(Weighting))
        assert 0.0 < summary.reconstruction_error < 1e-5
        matrices = mixer.matrices(list(Weighting))
        for weighting, matrix in zip(Weighting, matrices, strict=True):
            difference = (matrix.sum(1) - summary.row_sums[weighting]).abs().max()
            assert difference <= 1e-5 * summary.added[weighting].max()
        for part in mixer.contributions([2, len(IDS) - 4]):
            assert part.error < 1e-5


def test_gradients_are_those_of_the_target_by_the_mixers_outputs(
    loaded: LoadedModel, traced: TextTrace
) -> None:
    mixers, leaves = _s6_mixers(loaded.model), {}
    with ExitStack() as hooks:
        for layer, module in mixers.items():
            leaves[layer] = torch.zeros(1, len(IDS), 48, requires_grad=True)

            def add(module: Any, args: Any, output: Tensor, leaf: Tensor = leaves[layer]) -> Tensor:
                return output + leaf

            hooks.callback(module.register_forward_hook(add).remove)
        logits = loaded.model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -4]
        gradients = torch.autograd.grad(logits[11] - logits[2], list(leaves.values()))
    for layer, (expected,) in zip(leaves, gradients, strict=True):
        found = traced.mixers[layer].capture.output_gradient
        # Rounding of the blocks above, and of another batch.
        assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_missing_parameter_raises(loaded: LoadedModel, traced: TextTrace) -> None:
    layer, module = next(iter(_s6_mixers(loaded.model).items()))
    kept = module.D
    del module.D
    try:
        with pytest.raises(KeyError, match="D"):
            traced.mixers[layer]
    finally:
        module.D = kept
