"""Passes that begin at a layer: what lies below the changed neurons passes once for all conditions.

A layer hands the next one nothing but a stream of hidden states, so a pass may begin with the
stream that a layer was given before any change; the layers below it then only pass on.

Axes: n texts, l tokens, m hidden size, b rows (n texts under each of several conditions).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from workers.pacing import layers_of

# Where layers are known to hand on a stream alone; a test holds each of them to it.
BY_STREAM = frozenset(
    {
        *("mamba", "falcon_mamba", "jamba", "zamba", "mamba2", "granitemoehybrid", "nemotron_h"),
        *("zamba2", "gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "mistral", "gemma2", "opt"),
    }
)


def layers_by_stream(model: Any) -> Sequence[nn.Module]:
    """A model's layers, if a pass may begin at any of them; none otherwise."""
    return layers_of(model) if model.config.model_type in BY_STREAM else []


@contextmanager
def keeping(
    layers: Sequence[nn.Module],
    starts: Collection[int],
    kept: dict[int, Tensor],
    tokens: slice,
    length: int,
) -> Iterator[None]:
    """Keep the streams (n, l, m) that go into the layers `starts`, from the pass of some tokens."""

    def keep(start: int) -> Any:
        def see(module: nn.Module, args: Any, output: Tensor) -> None:
            if start not in kept:
                kept[start] = output.new_empty(output.shape[0], length, output.shape[2])
            kept[start][:, tokens] = output

        return see

    with ExitStack() as hooks:
        for start in starts:
            hooks.callback(layers[start - 1].register_forward_hook(keep(start)).remove)
        yield


@contextmanager
def beginning(
    layers: Sequence[nn.Module], start: int, stream: Tensor, conditions: int
) -> Iterator[None]:
    """Have a pass of rows (b, l, m) begin at a layer, each condition with its stream (n, l, m)."""

    def pass_on(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return states

    def begin(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return stream.repeat(conditions, 1, 1)

    below: list[Any] = list(layers[:start])
    try:
        for layer in below:
            layer.forward = begin if layer is below[-1] else pass_on
        yield
    finally:
        for layer in below:
            vars(layer).pop("forward", None)


def begins_at(kept: Mapping[int, Tensor], lowest: int) -> int:
    """The highest layer, not above `lowest`, whose stream is kept; 0 for a whole pass."""
    return max((start for start in kept if start <= lowest), default=0)
