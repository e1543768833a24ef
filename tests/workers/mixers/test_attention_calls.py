"""Attention with a cap or sinks, block by block, against the formula that holds every score."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from schemas import pieces
from workers.mixers.attention_calls import attention

TEXTS, HEADS, LENGTH, WIDTH = 2, 4, 37, 6
CAP, SINKS = 1.5, torch.linspace(-1.0, 1.0, HEADS)
# Five queries of all heads, which do not divide the text; and less than one query.
FIVE, NONE = 5 * TEXTS * HEADS * LENGTH, 1


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    key, value = (v.repeat_interleave(shared, dim=1) for v in (key, value))
    scores = scaling * (query @ key.mT)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    scores = scores.masked_fill(~mask, -torch.inf)
    if s_aux is not None:
        column = s_aux[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    return (scores.softmax(-1)[..., : key.shape[2]] @ value).transpose(1, 2)


def drawn(shared: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, WIDTH), (HEADS // shared, WIDTH), (HEADS // shared, 3)]
    return [
        torch.randn(TEXTS, heads, LENGTH, width, generator=generator).requires_grad_()
        for heads, width in shapes
    ]


def windows() -> Tensor:
    """(b, 1, l, l): another window in each text; the second also reads one token ahead."""
    every = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    return torch.stack([every.tril() & ~every.tril(-7), every.tril(1) & ~every.tril(-3)])[:, None]


def computed(tensors: list[Tensor], mask: Tensor | None, **options: Any) -> Tensor:
    found, _ = attention(nn.Module(), *tensors, mask, scaling=0.9, **options)
    return found


@pytest.mark.parametrize("budget", [FIVE, NONE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize(
    "options", [{"softcap": CAP}, {"s_aux": SINKS}, {"softcap": CAP, "s_aux": SINKS}]
)
def test_blocks_give_what_all_scores_at_once_give(
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    shared: int,
    masked: bool,
    budget: int,
) -> None:
    monkeypatch.setattr(pieces, "ATTENTION", budget)
    tensors, mask = drawn(shared), windows() if masked else None
    expected = plain(*tensors, mask, 0.9, **options)
    found = computed(tensors, mask, **options)
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, tensors, outer)
    gradients = torch.autograd.grad(found, tensors, outer)
    # float32, whose sums over 37 tokens come in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-5, atol=1e-5)


def test_sinks_have_a_gradient_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ATTENTION", FIVE)
    sinks = SINKS.clone().requires_grad_()
    (right,) = torch.autograd.grad(plain(*drawn(2), None, 0.9, CAP, sinks).sum(), sinks)
    (found,) = torch.autograd.grad(computed(drawn(2), None, softcap=CAP, s_aux=sinks).sum(), sinks)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


@dataclass
class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that an operation returns."""

    numbers: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_no_tensor_is_larger_than_a_block_and_the_graph_keeps_none_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pieces, "ATTENTION", FIVE)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    tensors = drawn(2)
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = computed(tensors, None, softcap=CAP, s_aux=SINKS)
        torch.autograd.grad(found.sum(), tensors)
    # A block and the column of sinks beside its keys; or the queries themselves.
    assert largest.numbers <= max(FIVE + 5 * TEXTS * HEADS, tensors[0].numel())
    assert sum(kept.values()) < TEXTS * HEADS * LENGTH**2
