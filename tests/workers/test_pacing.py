"""What is heard of a pass as it goes."""

import pytest

from catalogue.locate import locate
from schemas.settings import Settings
from workers.models.loading import load
from workers.pacing import layers_of, paced
from workers.traces import TraceRequest
from workers.tracing import trace


@pytest.mark.parametrize("name", ["recall-mamba", "recall-mamba2", "recall-gpt2"])
def test_every_layer_is_heard_forward_and_back(name: str) -> None:
    settings = Settings(device="cpu")
    loaded = load(locate(f"pocket/{name}", settings), settings)
    heard: list[tuple[int, int, bool]] = []
    request = TraceRequest(loaded.tokeniser.ids("apple 3 river 7 apple"))
    with paced(loaded.model, lambda *passed: heard.append(passed)):
        trace(loaded, [request], {0}, {0})
    count, tokens = len(loaded.description.layers), len(request.ids)
    assert len(layers_of(loaded.model)) == count
    assert heard == [(1, tokens, False)] * count + [(1, tokens, True)] * count
    heard.clear()
    trace(loaded, [request], {0}, set())
    assert not heard
