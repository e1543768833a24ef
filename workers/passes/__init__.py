"""Passes of a model over a batch of texts: whole, or piece by piece in memory that stays flat.

Axes: b texts, l tokens, m hidden size, p tokens of one piece.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import Mamba2Model, MambaModel

from schemas.pieces import borders, pass_tokens
from workers.kernels.carried import Border, Carried
from workers.kernels.selective_scan import handles
from workers.passes.batch import Batch, Pass
from workers.passes.piecewise import PiecewisePass
from workers.passes.whole import WholePass

# Models of state-space mixers alone, whose code takes a cache from one piece to the next;
# `catalogue.passing` counts on the same.
_PIECEWISE = (MambaModel, Mamba2Model)


def pass_over(batch: Batch) -> Pass:
    """The pass for this model and these texts; pieces where they save memory."""
    base, (texts, length) = batch.model.base_model, batch.ids.shape
    if not in_pieces(batch.model):
        return WholePass(batch)
    blocks = len(base.layers) - min(batch.gradient_layers, default=len(base.layers))
    piece = pass_tokens(base.config.hidden_size, blocks, texts)
    return WholePass(batch) if length <= piece else PiecewisePass(batch, piece)


def in_pieces(model: Any) -> bool:
    """Whether long texts of a model can pass in pieces."""
    base = model.base_model
    return type(base) in _PIECEWISE and handles(base.embeddings.weight)


@torch.no_grad()
def states_over(
    model: Any, ids: Tensor, around: Callable[[slice], AbstractContextManager[object]]
) -> Iterator[tuple[slice, Tensor]]:
    """Run a model on ids (b, l); its last hidden states (b, p, m), a piece of the tokens at a time.

    `around` is entered while the tokens of a piece pass. Memory: what one piece takes.
    """
    texts, length = ids.shape
    size = pass_tokens(model.config.hidden_size, 0, texts) if in_pieces(model) else length
    before = Border()
    for start, stop in borders(length, size):
        tokens, carried = slice(start, stop), Carried(before)
        cache = {} if size >= length else {"cache_params": carried}
        with carried.active() if cache else nullcontext(), around(tokens):
            states = model.base_model(input_ids=ids[:, tokens], use_cache=False, **cache)
        before = carried.after
        yield tokens, states.last_hidden_state
