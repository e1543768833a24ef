"""Which layers of a model a request reads, which must be traced for that, and what is left out."""

from dataclasses import dataclass, field, replace

from schemas.catalogue import ModelDescription
from schemas.names import NEEDS_GRADIENT, Method
from schemas.request import JobRequest, select_layers


@dataclass(frozen=True)
class Selection:
    """Of the attention `layers` are reported; `traced` also holds those that carry the rollout on.

    `neurons` are the layers whose neurons are asked for, `attributed` those of them whose
    attribution is; `gradient` are all whose mixer needs a gradient. `unavailable` is a sentence
    about what was asked for and cannot be read, or None.
    """

    layers: list[int]
    traced: set[int]
    gradient: set[int]
    methods: list[Method]
    unavailable: str | None
    neurons: list[int] = field(default_factory=list)
    attributed: set[int] = field(default_factory=set)

    @property
    def captured(self) -> set[int]:
        """Every layer whose mixer's input and output are kept."""
        return self.traced | self.gradient


def select(request: JobRequest, model: ModelDescription) -> Selection:
    """What to read of one model; a layer whose mixer has no hidden attention is no error."""
    chosen, neurons = _attention(request, model), neuron_layers(request, model)
    asked = False if request.neurons is None else request.neurons.attribution
    attributed = set(neurons)
    if asked is None:
        attributed &= chosen.gradient
    elif not asked:
        attributed = set()
    gradient = chosen.gradient | (attributed & model.layers_with(NEEDS_GRADIENT))
    return replace(chosen, gradient=gradient, neurons=neurons, attributed=attributed)


def attention_layers(request: JobRequest, model: ModelDescription) -> list[int]:
    """The layers whose attention a request asks for; none where it asks for no attention."""
    section = request.attention
    if section is None:
        return []
    asked = request.layers if section.layers is None else section.layers
    return select_layers(asked, len(model.layers))


def neuron_layers(request: JobRequest, model: ModelDescription) -> list[int]:
    """The layers whose neurons a request asks for, to be measured, compared or intervened on."""
    sections = (
        request.neurons,
        request.knowledge_neurons,
        request.perturbation,
        request.universality,
    )
    if all(section is None for section in sections):
        return []
    return select_layers(request.layers, len(model.layers))


def _attention(request: JobRequest, model: ModelDescription) -> Selection:
    section = request.attention
    if section is None:
        return Selection([], set(), set(), [], "The request has `attention` set to null.")
    methods = set(section.methods)
    readable = model.layers_with(methods)
    asked = attention_layers(request, model)
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
