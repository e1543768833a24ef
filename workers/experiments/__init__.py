"""Experiments on a loaded model: what it says when something inside it is changed."""

from collections.abc import Callable

Tell = Callable[[float, str], None]
"""Told how much is done, of 1, and what is being done; may raise to end it."""
