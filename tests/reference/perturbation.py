"""What is said of one text under one change, in float64, with a plain hook."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def widened(model: nn.Module) -> Any:
    """A copy of the model in float64."""
    return copy.deepcopy(model).double()


def said(
    model: Any,
    changes: Mapping[str, Change],
    ids: Sequence[int],
    position: int = -1,
    token: int | None = None,
    contrast: int | None = None,
) -> dict[str, float]:
    """logit, probability, divergence and loss under changes to what modules read, by their names.

    The target is the top token before any change where none is named.
    """
    before, after = _logits(model, {}, ids), _logits(model, changes, ids)
    token = int(before[position].argmax()) if token is None else token
    log_before, log_after = (torch.log_softmax(found, 1) for found in (before, after))
    logit = float(after[position, token])
    lost = [-float(log_after[at, following]) for at, following in enumerate(ids[1:])]
    return {
        "logit": logit if contrast is None else logit - float(after[position, contrast]),
        "probability": math.exp(float(log_after[position, token])),
        "divergence": sum(
            math.exp(float(p)) * float(p - q)
            for p, q in zip(log_before[position], log_after[position], strict=True)
        ),
        "loss": sum(lost) / len(lost) if lost else math.nan,
    }


def _logits(model: Any, changes: Mapping[str, Change], ids: Sequence[int]) -> Tensor:
    """(l, vocab)."""
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_pre_hook(lambda _, args, change=change: (change(args[0]),))
        for name, change in changes.items()
    ]
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits
