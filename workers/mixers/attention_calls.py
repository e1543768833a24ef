"""The attention function of every transformer here, which can also tell what it is called with.

transformers' attention modules make queries, keys and values in their own ways (positions, norms,
shared heads) and hand them to one function, chosen by name from a registry. Models are loaded with
this one: it computes as the library's own does, and inside `calls()` it notes its arguments.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "mambascope"
# Arguments that change nothing here: no dropout runs, and what is attended is in the mask.
_WITHOUT_EFFECT = {
    *("dropout", "scaling", "is_causal", "sliding_window", "softcap", "s_aux", "use_cache"),
    *("output_attentions", "position_ids", "cache_position", "position_embeddings"),
}


@dataclass(frozen=True)
class Call:
    """One text's call: queries (h, l, e), keys (k, l, e) and values (k, l, p) of its heads.

    reach (l, l): what each query may read, or None for everything before it. unknown names the
    arguments whose effect is not known.
    """

    module: nn.Module
    queries: Tensor
    keys: Tensor
    values: Tensor
    reach: Tensor | None
    scaling: float
    cap: float | None
    sinks: Tensor | None
    unknown: list[str]


_active: ContextVar[list[Call] | None] = ContextVar("calls", default=None)


@contextmanager
def calls() -> Iterator[list[Call]]:
    """The calls within this block, which get zeros for an answer."""
    found: list[Call] = []
    token = _active.set(found)
    try:
        yield found
    finally:
        _active.reset(token)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """(b, l, h, p) of query (b, h, l, e), key (b, k, l, e) and value (b, k, l, p).

    attention_mask (b, 1, l, l) is true where a query reads a key, or None for the causal one.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = _active.get()
    if found is not None:
        known = {name for name, given in kwargs.items() if given is not None} - _WITHOUT_EFFECT
        reach = None if attention_mask is None else attention_mask[0, 0]
        tensors = (query[0].detach(), key[0].detach(), value[0].detach())
        found.append(Call(module, *tensors, reach, scaling, softcap, s_aux, sorted(known)))
        return value.new_zeros(
            *query.shape[:1], query.shape[2], query.shape[1], value.shape[3]
        ), None
    if softcap is None and s_aux is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output, None
    return _plain(query, key, value, attention_mask, scaling, softcap, s_aux), None


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention with a cap or sinks, which the library's fast one refuses."""
    shared = query.shape[1] // key.shape[1]
    key, value = (v.repeat_interleave(shared, dim=1) for v in (key, value))
    scores = scaling * (query @ key.mT)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if mask is None:
        length = query.shape[2]
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        column = sinks[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(-1)[..., : key.shape[2]]
    return (weights @ value).transpose(1, 2)


def register() -> None:
    """Make the function known to transformers; twice is harmless."""
    AttentionInterface.register(IMPLEMENTATION, attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
