"""A pass through a model, heard layer by layer as it goes forward and back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

_NAMES = ("layers", "h", "blocks")

Passed = Callable[[int, int, bool], None]
"""Told the rows and tokens of what has passed a layer, and whether on the way back."""


def layers_of(model: Any) -> Sequence[nn.Module]:
    """A model's layers in order; none where they are not found under a usual name."""
    for name, module in model.base_model.named_modules():
        if name.rsplit(".", 1)[-1] in _NAMES and isinstance(module, nn.ModuleList):
            return list(module)
    return []


@contextmanager
def paced(model: Any, passed: Passed) -> Iterator[None]:
    """Have `passed` called as each layer has run, and as the gradient comes to it on the way back.

    What it raises ends the pass.
    """

    def ran(module: nn.Module, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if not isinstance(states, Tensor) or states.dim() != 3:
            return
        rows, tokens = states.shape[:2]
        if states.requires_grad:
            states.register_hook(lambda _: passed(rows, tokens, True))  # type: ignore[no-untyped-call]
        passed(rows, tokens, False)

    with ExitStack() as hooks:
        for layer in layers_of(model):
            hooks.callback(layer.register_forward_hook(ran).remove)
        yield
