"""SSD's hidden attention the simple way: alpha (h, l, l) of all heads, in plain torch.

alpha[h,t,s] = delta[s,h] (C[t,g] . B[s,g]) exp(L[t,h] - L[s,h]), L the cumulative sum of A delta:
Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060).
"""

import torch
from torch import Tensor

from workers.kernels.ssd import System


def alpha(system: System) -> Tensor:
    """(h, l, l), by differences of cumulative sums, which is the fastest way to segment sums."""
    total = (system.delta * system.A).cumsum(0).T
    heads = len(total) // system.groups
    # exp of what lies above the diagonal would overflow.
    gaps = (total[:, :, None] - total[:, None, :]).clamp_(max=0)
    scores = torch.einsum("tgn,sgn->gts", system.C, system.B).repeat_interleave(heads, 0)
    return gaps.exp_().mul_(scores).mul_(system.delta.T[:, None, :]).tril_()


def mean(system: System) -> Tensor:
    """K (l, l): the mean over heads, which is that over channels."""
    return alpha(system).mean(0)


def guided(system: System, p: Tensor, q: Tensor) -> Tensor:
    """K (l, l): the mean over channels of p[t, d] q[s, d] alpha[h(d), t, s]; p and q (l, d)."""
    by_head = (v.view(len(v), system.heads, -1).transpose(0, 1) for v in (p, q))
    left, right = by_head
    return (left @ right.mT).mul_(alpha(system)).sum(0).div_(p.shape[1])
