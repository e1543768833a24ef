"""Compile the CPU's kernels before the first job needs them."""

import torch

from workers.kernels.activation_moments import ActivationMoments, Positions, StepMoments
from workers.kernels.causal_conv import causal_conv
from workers.kernels.hidden_attention import (
    Moments,
    apply_attention,
    attention_matrices,
    row_before,
    weighted_rows,
)
from workers.kernels.selective_scan import selective_scan
from workers.kernels.steps import Step

_TOKENS, _CHANNELS, _STATES = 17, 3, 2


def warm_up() -> None:
    """Run each kernel once on a tiny system.

    The compiler takes seconds for all of them after an installation; its results stay on disk, and
    from then on loading them takes a fraction of a second.
    """
    draw = torch.Generator().manual_seed(0)
    x, gate, delta = torch.rand(3, _TOKENS, _CHANNELS, generator=draw)
    B, C = torch.rand(2, _TOKENS, _STATES, generator=draw)
    A, D = -torch.rand(_CHANNELS, _STATES, generator=draw), torch.rand(_CHANNELS, generator=draw)
    system = (delta, A, B, C)

    apply_attention(*system, x)
    row_before(delta, A, B, C[-1], torch.zeros(_CHANNELS, dtype=torch.float64))
    weightings = ((None, None), (gate, x))
    attention_matrices(*system, weightings)
    for weights in weightings:
        weighted_rows(*system, x[:, 0][None], *weights)
        Moments.start(A).read(*system, *weights)
    rows = [values.T[None].clone().requires_grad_() for values in (x, delta, B, C, gate)]
    hidden, step, keys, queries, z = rows
    hidden = causal_conv(hidden, torch.rand(_CHANNELS, 3, generator=draw))
    out = selective_scan(hidden, step, A, keys, queries, D, z, D, delta_softplus=True)
    out.sum().backward()
    neurons = ActivationMoments(_CHANNELS, Positions.of([_TOKENS], bins=2), top=1)
    neurons.read(x[None], [0], [0], [_TOKENS])
    StepMoments(_CHANNELS).read(Step(delta.T[None]), 0, [0], [_TOKENS])
