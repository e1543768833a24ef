"""A long text's target row at one layer: what it costs in time and memory.

The layer is an S6 mixer of a 130M model's shape on random hidden states. `prepare` returns the call
to be measured: the reconstruction check, `attention_weighted` and `contribution`, of the target's
row, as a job of one reported layer makes them.
"""

import sys
from collections.abc import Callable

import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from schemas.names import Method
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.kernels import mamba
from workers.mixers.mamba import MambaAdapter
from workers.mixers.protocol import Capture, MixerTrace

HIDDEN = 768
METHODS = [Method.ATTENTION_WEIGHTED, Method.CONTRIBUTION]


def prepare(tokens: int) -> Callable[[], None]:
    """The reading of a text of that many tokens; the mixer has run on it before."""
    torch.manual_seed(0)
    mixer = MambaMixer(MambaConfig(hidden_size=HIDDEN), layer_idx=0).eval()
    hidden = torch.randn(tokens, HIDDEN)
    gradient = torch.zeros(tokens, HIDDEN)
    gradient[-1] = torch.randn(HIDDEN)
    with torch.no_grad(), mamba.installed():
        output = mixer(hidden[None])[0].clone()
    plan = ReadingPlan(frozenset({0}), METHODS, tokens - 1, 1e-4, dict.fromkeys(METHODS, "target"))
    capture = Capture(0, hidden, output, gradient)

    def call() -> None:
        # A trace of its own each time, so that nothing is kept from the last.
        trace: MixerTrace = MambaAdapter().trace(mixer, capture)
        (reading,) = read_layers({0: trace}, plan)
        sys.stderr.write(f"reconstruction error {reading.reconstruction_error:.2g}\n")

    return call
