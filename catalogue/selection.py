"""Which layers of a model a request reads, which must be traced for that, and what is left out."""

from dataclasses import dataclass

from schemas.catalogue import ModelDescription
from schemas.names import NEEDS_GRADIENT, Method
from schemas.request import JobRequest, select_layers


@dataclass(frozen=True)
class Selection:
    """`layers` are reported; `traced` also holds those that only carry the rollout on.

    `unavailable` is a sentence about what was asked for and cannot be read, or None.
    """

    layers: list[int]
    traced: set[int]
    gradient: set[int]
    methods: list[Method]
    unavailable: str | None


def select(request: JobRequest, model: ModelDescription) -> Selection:
    """What to read of one model; a layer whose mixer has no hidden attention is no error."""
    section = request.attention
    if section is None:
        return Selection([], set(), set(), [], "The request has `attention` set to null.")
    methods = set(section.methods)
    readable = model.layers_with(methods)
    asked = select_layers(request.layers, len(model.layers))
    layers = [layer for layer in asked if layer in readable]
    traced = set(layers)
    if layers and Method.ROLLOUT in methods:
        traced |= {layer for layer in readable if layer <= layers[-1]}
    gradient = set(layers) if methods & NEEDS_GRADIENT else set()
    reason = _reason(model, [layer for layer in asked if layer not in readable], readable)
    return Selection(layers, traced, gradient, list(section.methods), reason)


def _reason(model: ModelDescription, left_out: list[int], readable: set[int]) -> str | None:
    if not left_out:
        return None
    if not readable:
        return (
            f"`{model.id}` ({model.architecture}) has no layer whose hidden attention can be read: "
            "none of its layers carries a token mixer that is known here."
        )
    plural = len(left_out) > 1
    return (
        f"{'Layers' if plural else 'Layer'} {', '.join(map(str, left_out))} of `{model.id}` "
        f"{'carry' if plural else 'carries'} no token mixer, only an MLP; layers that do: "
        f"{', '.join(map(str, sorted(readable)))}."
    )
