"""The step Delta of state-space mixers, heard where the scan computes with it.

It stands in no module's input or output, so hooks cannot see it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn import functional


class Steps:
    """Hears the Delta of the scans that run between `listen` and `take`."""

    def __init__(self) -> None:
        self._listening = False
        self._found: list[Tensor] = []

    def listen(self) -> None:
        """Hear every scan from here on."""
        self._listening, self._found = True, []

    def take(self) -> Tensor | None:
        """The Delta (b, l, c) that was heard, and stop: of an S6's channels, head after head, or
        of an SSD's heads; None if nothing was.
        """
        found, self._found, self._listening = self._found, [], False
        return torch.cat(found, dim=2) if len(found) > 1 else next(iter(found), None)

    def hear_s6(self, dt: Tensor, bias: Tensor | None) -> None:
        """softplus(dt + bias), of dt (b, c, l) and bias (c,)."""
        if self._listening:
            with torch.no_grad():
                before = dt.transpose(1, 2).float()
                before = before if bias is None else before + bias.float()
                self._found.append(functional.softplus(before))

    def hear_ssd(self, delta: Tensor) -> None:
        """Delta (b, l, h) itself."""
        if self._listening:
            self._found.append(delta.detach().float())


_active: ContextVar[Steps | None] = ContextVar("steps", default=None)


@contextmanager
def hearing() -> Iterator[Steps]:
    """What hears the scans that run inside."""
    steps = Steps()
    token = _active.set(steps)
    try:
        yield steps
    finally:
        _active.reset(token)


def tell_s6(dt: Tensor, bias: Tensor | None) -> None:
    """Let who listens hear an S6 scan."""
    steps = _active.get()
    if steps is not None:
        steps.hear_s6(dt, bias)


def tell_ssd(delta: Tensor) -> None:
    """Let who listens hear an SSD scan."""
    steps = _active.get()
    if steps is not None:
        steps.hear_ssd(delta)
