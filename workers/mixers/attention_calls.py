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
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from schemas import pieces

IMPLEMENTATION = "mambascope"
# Arguments that change nothing here: no dropout runs, and what is attended is in the mask.
_WITHOUT_EFFECT = {
    *("dropout", "is_causal", "sliding_window", "use_cache", "output_attentions"),
    *("position_ids", "cache_position", "position_embeddings"),
}


@dataclass(frozen=True)
class Call:
    """One text's call: queries (h, l, e), keys (g, l, e) and values (g, l, p) of its heads.

    reach (l, l): what each query may read, or None for everything before it. unknown names the
    arguments whose effect is not known.
    """

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
    """(b, l, h, p) of query (b, h, l, e), key (b, g, l, e) and value (b, g, l, p).

    attention_mask (b, 1, l, l) is true where a query reads a key, or None for the causal one.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = _active.get()
    if found is not None:
        unknown = {name for name, given in kwargs.items() if given is not None} - _WITHOUT_EFFECT
        reach = None if attention_mask is None else attention_mask[0, 0]
        tensors = (query[0].detach(), key[0].detach(), value[0].detach())
        found.append(Call(*tensors, reach, scaling, softcap, s_aux, sorted(unknown)))
        return value.new_zeros(
            *query.shape[:1], query.shape[2], query.shape[1], value.shape[3]
        ), None
    if softcap is None and s_aux is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output, None
    return _in_blocks(query, key, value, attention_mask, scaling, softcap, s_aux), None


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention with a cap or sinks, which the library's fast one refuses.

    A block of queries of all heads at a time. A graph keeps what each block is made of and not its
    scores, which the backward pass computes again: memory is linear in l either way.
    """
    texts, heads, length, _ = query.shape
    size = max(1, pieces.ATTENTION // (texts * heads * length))
    found = []
    for start, stop in pieces.borders(length, size):
        rows = slice(start, stop)
        # Whatever a given mask lets a query read is left to it.
        keys = slice(rows.stop if mask is None else length)
        block = checkpoint(
            _block,
            *(query[:, :, rows], key[:, :, keys], value[:, :, keys]),
            *(_reach(mask, rows, query.device), scaling, cap, sinks),
            use_reentrant=False,
            # Nothing here is drawn.
            preserve_rng_state=False,
        )
        found.append(block)
    return torch.cat(found, dim=1)


def _reach(mask: Tensor | None, rows: slice, device: torch.device) -> Tensor:
    """(b or 1, 1, rows, keys): true where a query of the block reads a key."""
    if mask is not None:
        return mask[:, :, rows]
    every = torch.ones(rows.stop - rows.start, rows.stop, dtype=torch.bool, device=device)
    return every.tril(rows.start)[None, None]


def _block(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reach: Tensor,
    scaling: float,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """(b, rows, h, p) of query (b, h, rows, e), key (b, g, keys, e) and value (b, g, keys, p)."""
    (texts, heads, rows, _), keys = query.shape, key.shape[2]
    # The heads that share a key lie side by side, so that they are rows of one product.
    shared = (texts, key.shape[1], -1)
    scores = scaling * (query.reshape(*shared, query.shape[3]) @ key.mT)
    scores = scores.view(texts, heads, rows, keys)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~reach, -torch.inf)
    if sinks is not None:
        column = sinks[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(-1)[..., :keys]
    read = weights.reshape(*shared, keys) @ value
    return read.view(texts, heads, rows, -1).transpose(1, 2)


def register() -> None:
    """Make the function known to transformers; twice is harmless."""
    AttentionInterface.register(IMPLEMENTATION, attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
