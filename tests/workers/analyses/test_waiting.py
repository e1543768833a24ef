"""A layer is read without waiting for the device until its checks are settled."""

import pytest
import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from schemas.names import Method
from schemas.sections import Rows
from workers.analyses.checks import Checks
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.mixers.mamba import MambaAdapter
from workers.mixers.protocol import Capture, MixerTrace

LENGTH = 5


def on_meta(layer: int) -> MixerTrace:
    """A layer whose tensors have no numbers: whoever asks for one raises, as a GPU would wait."""
    config = MambaConfig(hidden_size=4, state_size=2, num_hidden_layers=2, time_step_rank=2)
    hidden = torch.empty(LENGTH, config.hidden_size, device="meta")
    with torch.device("meta"):
        mixer = MambaMixer(config, layer)
    return MambaAdapter().trace(mixer, Capture(layer, hidden, hidden, hidden))


@pytest.mark.parametrize("rows", ["target", "all"])
@pytest.mark.parametrize("clamp", [True, False])
def test_only_settled_checks_wait(rows: Rows, clamp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {layer: on_meta(layer) for layer in range(2)}
    plan = ReadingPlan(
        layers=frozenset(layers),
        methods=list(Method),
        position=3,
        tolerance=1e-4,
        rows=dict.fromkeys(Method, rows),
        rollout_clamp=clamp,
    )
    with pytest.raises(NotImplementedError, match="meta"):
        list(read_layers(layers, plan))
    settled = []
    monkeypatch.setattr(Checks, "settle", lambda self: settled.append(self.layer))
    readings = list(read_layers(layers, plan))
    assert [set(reading.maps) for reading in readings] == [set(Method)] * 2
    # The rollout of the target's row is complete only when all layers have been read.
    assert sorted(settled) == ([0, 1] if rows == "all" else [0, 0, 1, 1])


def test_a_long_text_is_read_in_pieces_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.pieces.READ", 2)
    monkeypatch.setattr(Checks, "settle", lambda _: None)
    plan = ReadingPlan(
        layers=frozenset({0}),
        methods=list(Method),
        position=3,
        tolerance=1e-4,
        rows=dict.fromkeys(Method, "target"),
    )
    (reading,) = read_layers({0: on_meta(0)}, plan)
    assert reading.maps[Method.CONTRIBUTION].matrix.shape == (1, LENGTH)
