"""Any mixer with its alpha as an explicit tensor, by the library's own code around it.

A module in float64 is run once more on what it read, with the one function in its middle (scan or
attention) replaced by its definition: alpha materialised channel by channel, applied as a matrix.
Of the adapters only what they captured is used, and autograd passes through alpha.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from workers.kernels import mamba
from workers.mixers.attention_calls import IMPLEMENTATION, attention


@dataclass(frozen=True)
class Explicit:
    """alpha (d, t, s) and x (l, d), both float64; gradient (d, t, s): d target / d alpha."""

    alpha: Tensor
    x: Tensor
    gradient: Tensor

    def matrix(self, weighted: bool) -> Tensor:
        """(l, l): mean over channels of alpha, or of its gradient times itself."""
        return self.pairs(weighted).mean(0)

    def pairs(self, weighted: bool) -> Tensor:
        """(d, t, s): alpha, or its gradient times itself."""
        return self.alpha * self.gradient if weighted else self.alpha


def run_library_module(
    module: nn.Module, hidden: Tensor, context: Mapping[str, Any], outer: Tensor
) -> Explicit:
    """Run a mixer on its input (l, m); outer (l, m) is the gradient of its output."""
    wide = copy.deepcopy(module).double()
    found: list[tuple[Tensor, Tensor]] = []
    with _definitions(found), torch.enable_grad():
        result = wide(hidden_states=hidden.double()[None], **_double(dict(context)))
        output = result[0] if isinstance(result, tuple) else result
        alphas = [alpha for alpha, _ in found]
        gradients = torch.autograd.grad((output[0] * outer.double()).sum(), alphas)
    return Explicit(
        alpha=torch.cat([alpha.detach() for alpha in alphas]),
        x=torch.cat([x.detach() for _, x in found], dim=1),
        gradient=torch.cat(gradients).tril(),
    )


def _double(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _double(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_double(part) for part in value)
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if is_float else value


Apply = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def _definitions(found: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Every architecture's scan and attention, replaced; each call adds its alpha and x."""

    def apply(alpha: Tensor, x: Tensor) -> Tensor:
        """(l, d) of alpha (d, t, s) and x (l, d)."""
        leaf = alpha.detach().requires_grad_()
        found.append((leaf, x))
        return torch.einsum("dts,sd->td", leaf, x)

    scans = {
        "mamba_selective_scan": partial(_s6, apply),
        "mamba2_chunk_scan": partial(_ssd, apply),
    }
    with ExitStack() as patches:
        for leaves in mamba.LEAVES:
            own = scans[leaves.scan_name]
            patches.enter_context(patch.object(leaves.module, leaves.scan_name, own))
        AttentionInterface.register(IMPLEMENTATION, partial(_softmax, apply))
        patches.callback(AttentionInterface.register, IMPLEMENTATION, attention)
        yield


def _s6(
    apply: Apply,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **others: Any,
) -> Any:
    _refuse(others)
    x, delta = x[0].T, dt[0].T
    delta = delta if delta_bias is None else delta + delta_bias
    delta = functional.softplus(delta) if delta_softplus else delta
    S = (delta[:, :, None] * A).cumsum(0)
    decay = torch.exp((S[:, None] - S[None]).clamp(max=0.0))
    alpha = torch.einsum("tn,sn,tsdn,sd->dts", C[0].T, B[0].T, decay, delta).tril()
    y = apply(alpha, x)
    y = y if D is None else y + D * x
    y = y if z is None else y * functional.silu(z[0].T)
    state = x.new_zeros(1, x.shape[1], A.shape[1])
    return (y.T[None], state) if return_last_state else y.T[None]


def _ssd(
    apply: Apply,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    *,
    D: Tensor,
    dt_bias: Tensor,
    dt_limit: tuple[float, float],
    dt_softplus: bool,
    return_final_states: bool = False,
    **others: Any,
) -> Any:
    _refuse(others)
    if not dt_softplus or return_final_states:
        raise NotImplementedError("an SSD without softplus, or its last state")
    _, length, heads, width = x.shape
    delta = functional.softplus(dt[0] + dt_bias).clamp(*dt_limit)
    S = (delta * A).cumsum(0)
    decay = torch.exp((S[:, None] - S[None]).clamp(max=0.0))
    B, C = (v[0].repeat_interleave(heads // v.shape[2], 1) for v in (B, C))
    alpha = torch.einsum("thn,shn,tsh,sh->hts", C, B, decay, delta).tril()
    flat = x[0].reshape(length, -1)
    y = apply(alpha.repeat_interleave(width, 0), flat)
    y = y + D.repeat_interleave(width) * flat
    return y.view(1, length, heads, width)


def _softmax(
    apply: Apply,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> Any:
    if s_aux is not None:
        raise NotImplementedError("attention with sinks")
    shared, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (v[0].repeat_interleave(shared, 0) for v in (key, value))
    scores = query[0] @ key.mT * scaling
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    every = torch.ones(length, length, dtype=torch.bool).tril()
    seen = every if mask is None else mask[0, 0]
    alpha = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    flat = value.transpose(0, 1).reshape(length, -1)
    y = apply(alpha.repeat_interleave(value.shape[2], 0), flat)
    return y.view(1, length, len(key), -1), None


def _refuse(others: dict[str, Any]) -> None:
    # What only chooses how the library's own code computes the same.
    same = ("use_mambapy", "use_associative_scan")
    unknown = [name for name, given in others.items() if given is not None and name not in same]
    if unknown:
        raise NotImplementedError(f"a scan with {', '.join(unknown)}")
