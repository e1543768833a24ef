"""What a Mamba carries from one piece of its texts to the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Border:
    """What a Mamba's mixers know of the tokens before a piece, by layer; nothing before the first.

    rows (b, d, j-1): the convolution's last inputs; states: the scan's, (b, d, n) of S6 and
    (b, h, p, n) of SSD.
    """

    rows: dict[int, Tensor] = field(default_factory=dict)
    states: dict[int, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        return [kind[layer] for kind in (self.rows, self.states) for layer in sorted(kind)]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Border":
        """The border with every tensor changed, in the order of `tensors`."""
        rows, states = (
            {layer: change(kind[layer]) for layer in sorted(kind)}
            for kind in (self.rows, self.states)
        )
        return Border(rows, states)

    def above(self, layer: int) -> "Border":
        """The part of the layers above this one."""
        rows, states = (
            {k: kept for k, kept in kind.items() if k > layer} for kind in (self.rows, self.states)
        )
        return Border(rows, states)


class Carried:
    """A cache for one piece of the texts: mixers start from `before` and leave `after`.

    transformers' mixer asks its cache for the recurrent state but hands it to the scan for single
    tokens only; so the installed functions take it from here, inside `with carried.active()`.
    """

    def __init__(self, before: Border) -> None:
        self.before, self.after = before, Border()
        self._layer, self._taken = -1, 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """The installed functions start from `before` within this block."""
        token = active_carried.set(self)
        try:
            yield
        finally:
            active_carried.reset(token)

    def get_conv_state(self, layer: int, state_idx: int = 0) -> None:
        """None: every piece, of one token too, takes the way of whole texts."""

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> None:
        """None, as `get_conv_state`."""

    def update_conv_state(self, u: Tensor, layer: int, conv_kernel_size: int) -> Tensor:
        """The convolution's input (b, d, l), unchanged; its last rows are kept."""
        self._layer, self._taken = layer, 0
        count = conv_kernel_size - 1
        if u.shape[2] < count:
            before = self.before.rows.get(layer)
            before = u.new_zeros(*u.shape[:2], count) if before is None else before
            kept = torch.cat([before, u], dim=2)
        else:
            kept = u
        # A copy: a view would keep the whole piece in memory.
        self.after.rows[layer] = kept[:, :, kept.shape[2] - count :].clone()
        return u

    def update_recurrent_state(self, state: Tensor, layer_idx: int) -> None:
        """Keep the state after the piece.

        Raises RuntimeError: convolution and scan did not both start from `before`.
        """
        if self._taken != 2:
            raise RuntimeError(f"layer {layer_idx} ran without what it should carry")
        self.after.states[layer_idx] = state

    def take(self, kind: dict[int, Tensor]) -> Tensor | None:
        """What the running layer starts from, None before the first piece."""
        self._taken += 1
        return kind.get(self._layer)


active_carried: ContextVar[Carried | None] = ContextVar("carried", default=None)
"""The cache of the piece that is running, if its texts run in pieces."""
