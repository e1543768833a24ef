"""The step Delta of state-space mixers, heard where the scan computes with it.

It stands in no module's input or output, so hooks cannot see it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """Delta of a scan: softplus(before + bias), or `before` itself; (b, c, l) and (c,) or None.

    c: the channels of an S6, or of one of its heads; the heads of an SSD.
    """

    before: Tensor
    bias: Tensor | None = None
    softplus: bool = False


class Steps:
    """Hears the scans that run between `listen` and `take`."""

    def __init__(self) -> None:
        self._listening = False
        self._found: list[Step] = []

    def listen(self) -> None:
        """Hear every scan from here on."""
        self._listening, self._found = True, []

    def take(self) -> list[Step]:
        """What was heard, head after head, and stop."""
        found, self._found, self._listening = self._found, [], False
        return found

    def hear(self, step: Step) -> None:
        """Called where a scan runs."""
        if self._listening:
            self._found.append(step)


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


def tell(step: Step) -> None:
    """Let who listens hear a scan's step."""
    steps = _active.get()
    if steps is not None:
        steps.hear(step)
