"""Neurons set to 0 by a hook, one set after another, as notebooks do; on our scan."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def said_apart(
    model: Any, ids: Sequence[int], projection: nn.Module, sets: Sequence[Sequence[int]]
) -> Tensor:
    """(4, c): logit, probability, KL from the unchanged model, and mean loss, under each set."""
    tokens = torch.tensor([list(ids)])
    with torch.no_grad():
        before = model(tokens, use_cache=False).logits[0].double()
        target = int(before[-1].argmax())
        plain = torch.log_softmax(before[-1], 0)
        found = []
        for neurons in sets:
            hook = projection.register_forward_pre_hook(_zeroing(list(neurons)))
            logits = model(tokens, use_cache=False).logits[0].double()
            hook.remove()
            now = torch.log_softmax(logits[-1], 0)
            loss = functional.cross_entropy(logits[:-1], tokens[0, 1:])
            divergence = (plain.exp() * (plain - now)).sum()
            found.append(torch.stack([logits[-1, target], now[target].exp(), divergence, loss]))
    return torch.stack(found, 1)


def _zeroing(neurons: list[int]) -> Any:
    def zero(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        changed = args[0].clone()
        changed[..., neurons] = 0
        return (changed,)

    return zero
