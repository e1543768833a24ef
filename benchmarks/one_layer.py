"""One layer of a long text, as a job reads it: what `query_row` measures the memory of.

Apart from it, because each measurement is a process that imports its module, and this one takes
seconds to import.
"""

import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from benchmarks.timing import Call
from schemas.names import Method
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.kernels import mamba
from workers.mixers.mamba import MambaAdapter
from workers.mixers.protocol import Capture, MixerTrace

HIDDEN = 768
METHODS = [Method.ATTENTION_WEIGHTED, Method.CONTRIBUTION]


def prepared(length: int) -> Call:
    """What a job does with one reported layer of a text: the check, and the row by two methods.

    The layer is an S6 mixer of the 130M shape on random hidden states; it has run on them before.
    """
    torch.manual_seed(0)
    mixer = MambaMixer(MambaConfig(hidden_size=HIDDEN), layer_idx=0).eval()
    hidden = torch.randn(length, HIDDEN)
    gradient = torch.zeros(length, HIDDEN)
    gradient[-1] = torch.randn(HIDDEN)
    with torch.no_grad(), mamba.installed():
        output = mixer(hidden[None])[0].clone()
    plan = ReadingPlan(frozenset({0}), METHODS, length - 1, 1e-4, dict.fromkeys(METHODS, "target"))
    trace: MixerTrace = MambaAdapter().trace(mixer, Capture(0, hidden, output, gradient))
    return lambda: list(read_layers({0: trace}, plan))
