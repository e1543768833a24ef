"""A sign of life from inside a long computation, to whoever asked for it.

Only the thread that asked is heard; others, and computations that nobody listens to, are silent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[float | None], None]
"""Told the share of what it listens to that is done, or None for a mere sign; may raise to end it.
"""

_listener: ContextVar[Listener | None] = ContextVar("pulse", default=None)


@contextmanager
def felt(listener: Listener) -> Iterator[None]:
    """Let a listener hear what beats inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def beat(done: float | None = None) -> None:
    """Say that it goes on, and perhaps what share is done."""
    listener = _listener.get()
    if listener is not None:
        listener(done)
