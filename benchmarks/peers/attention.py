"""Three ways to the mean hidden attention (l, l) of one S6 layer, from its published formula.

alpha[d,t,s] = delta[s,d] sum_n C[t,n] B[s,n] exp(A[d,n] (S[t,d] - S[s,d])), S the cumulative sum of
delta: Ali, Zimerman and Wolf, "The Hidden Attention of Mamba Models" (arXiv 2403.01590). Each
takes how much of the layer to run, and returns the sum over those channels divided by d.
"""

import torch
from torch import Tensor

from benchmarks.systems import System

# Columns (channel, state) carried forward at once: few enough to stay in the cache for a while,
# many enough that the Python around each row does not count.
_COLUMNS = 4096


def channel_attention(system: System, total: Tensor, channel: int) -> Tensor:
    """alpha (l, l) of one channel, vectorised over queries, keys and states.

    total: delta summed up over the tokens.
    """
    delta, A, B, C = system
    gap = (total[:, None, channel] - total[None, :, channel]).clamp_min_(0)
    decay = (gap[:, :, None] * A[channel]).exp_().mul_(B)
    return (torch.bmm(decay, C[:, :, None])[:, :, 0] * delta[None, :, channel]).tril_()


def per_channel(system: System, channels: int) -> Tensor:
    """The vectorised per-channel way: one channel's exponentials (t, s, n) after the other."""
    delta = system[0]
    total = delta.cumsum(0)
    out = torch.zeros(len(delta), len(delta))
    for channel in range(channels):
        out += channel_attention(system, total, channel)
    return out / delta.shape[1]


def rows_carried_forward(system: System, channels: int) -> Tensor:
    """The strongest short script: keys X[s, (d, n)], decayed in place for each query, read by C_t.

    X[s] = delta_s B_s when token s comes, X *= exp(A delta_t) at every later token t, and row t of
    the sum over channels is X C_t: no exponential is taken twice, and each row is one product.
    """
    delta, A, B, C = system
    length, states = B.shape
    out = torch.zeros(length, length)
    step = max(1, _COLUMNS // states)
    X = torch.empty(length, step * states)
    for first in range(0, channels, step):
        chunk = slice(first, min(first + step, channels))
        decays = (delta[:, chunk, None] * A[chunk]).exp_().flatten(1)
        keys = (delta[:, chunk, None] * B[:, None]).flatten(1)
        queries = C.repeat(1, decays.shape[1] // states)
        held = X[:, : decays.shape[1]]
        for t in range(length):
            held[:t] *= decays[t]
            held[t] = keys[t]
            out[t, : t + 1] += held[: t + 1] @ queries[t]
    return out / delta.shape[1]


def triple_loop(system: System, channels: int, queries: list[int]) -> Tensor:
    """The published loops over t, s and k between: the product of the decays, as it is written."""
    delta, A, B, C = system
    length, d = delta.shape
    delta, A = delta[:, :channels], A[:channels]
    discrete = torch.exp(delta[:, :, None] * A)
    out = torch.zeros(length, length)
    for t in queries:
        for s in range(t + 1):
            decay = torch.ones_like(A)
            for k in range(s + 1, t + 1):
                decay = decay * discrete[k]
            out[t, s] = torch.einsum("n,dn,d,n->", C[t], decay, delta[s], B[s]) / d
    return out
