"""Self-checks of texts whose numbers cancel between states, channels and keys."""

import pytest
import torch

from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL, Method
from schemas.sections import Rows
from schemas.settings import Settings
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.models.loading import LoadedModel, load
from workers.traces import TraceRequest, traced
from workers.tracing import trace_each

METHODS = [Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED]
TARGETS = range(0, 38, 3)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    settings = Settings(device="cpu")
    return load(locate(DEFAULT_MODEL, settings), settings)


@pytest.mark.parametrize("rows", ["all", "target"])
def test_a_single_token_is_no_mismatch_whatever_it_is_read_for(
    loaded: LoadedModel, rows: Rows
) -> None:
    """Its matrix is one number, which may be next to nothing beside what was added up for it."""
    layers = {layer.layer for layer in loaded.description.layers}
    tokens = range(loaded.description.vocab_size)
    requests = [TraceRequest([token], token=target) for token in tokens for target in TARGETS]
    plan = ReadingPlan(frozenset(layers), METHODS, 0, 1e-4, dict.fromkeys(METHODS, rows))
    errors = [
        found.row_sum_error
        for _, outcome in trace_each(loaded, requests, layers, layers)
        for reading in read_layers(traced(outcome).mixers, plan)
        for found in reading.maps.values()
    ]
    assert len(errors) == len(requests) * len(layers) * len(METHODS)
    assert torch.stack(errors).max() < 1e-6
