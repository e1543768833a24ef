"""Whether a request's interventions on neurons fit the models that it names."""

from collections.abc import Generator, Iterator

from catalogue.case import Case, counted
from catalogue.selection import neuron_layers, select
from catalogue.texts import length_error
from catalogue.tokeniser import Tokeniser
from schemas.catalogue import ModelDescription
from schemas.names import Block, Intervening, Method, Mixer, Ranking
from schemas.problem import FieldError
from schemas.request import JobRequest
from schemas.sections import Intervention, NeuronRef, PerturbationSection
from schemas.settings import Settings

_AT = "/perturbation"
# Neurons that all random sets may draw together.
_MOST_DRAWN = 1 << 21
_UNUSED = {"factor": Intervening.SCALE, "std": Intervening.NOISE}


def intervention_errors(request: JobRequest) -> Iterator[FieldError]:
    """What is wrong with a request's interventions, whatever its models."""
    section = request.perturbation
    if section is None:
        return
    for index, given in enumerate(section.sets):
        if given.found_by is not None:
            objection = _not_asked_for(request, given.found_by)
            if objection is not None:
                yield FieldError(pointer=f"{_AT}/sets/{index}/found_by", detail=objection)
        yield from _repeats(index, given.neurons or [])
    for index, intervention in enumerate(section.interventions):
        yield from _unused(index, intervention)
    drawn = section.random_sets * sum(
        given.count if given.neurons is None else len(given.neurons) for given in section.sets
    )
    if drawn > _MOST_DRAWN:
        detail = (
            f"The random sets would draw {drawn} neurons; at most {_MOST_DRAWN} are drawn: give "
            "fewer or smaller sets, or ask for fewer `random_sets`."
        )
        yield FieldError(pointer=f"{_AT}/random_sets", detail=detail)


def perturbation_errors(case: Case) -> Iterator[FieldError]:
    """What of a request's interventions does not fit one model."""
    section = case.request.perturbation
    if section is None:
        return
    if case.described is not None:
        yield from _neuron_errors(section, case.whom, case.described)
        yield from _found_errors(case.request, section, case.whom, case.described)
    if case.tokens is not None:
        controls = yield from _control_errors(section, case, case.tokens)
        tokens = sum(case.lengths) + controls
        yield from _passing_errors(section, case.whom, tokens, case.settings)


def _passing_errors(
    section: PerturbationSection, name: str, tokens: int, settings: Settings
) -> Iterator[FieldError]:
    """Whether the `tokens` of texts and controls are too many to pass under all conditions."""
    conditions = len(section.sets) * (1 + section.random_sets) * len(section.interventions)
    passing, most = (1 + conditions) * tokens, settings.max_perturbed_tokens
    if passing > most:
        detail = (
            f"{conditions} conditions (each set and its random ones under each intervention) on "
            f"{tokens} tokens in {name} are {passing} tokens to pass; a job may pass "
            f"{most}: give fewer sets, interventions or texts, or ask for fewer `random_sets`."
        )
        yield FieldError(pointer=_AT, detail=detail)


def _not_asked_for(request: JobRequest, found_by: str) -> str | None:
    """Why nothing finds these neurons, whatever the model; or None."""
    if found_by == "knowledge_neurons":
        if request.knowledge_neurons is None:
            return "No facts are looked for: give `knowledge_neurons` the facts."
        return None
    if isinstance(found_by, Method):
        if request.attention is None or found_by not in request.attention.methods:
            return f"The method `{found_by}` is not asked for: name it in `attention.methods`."
        return None
    if request.neurons is None:
        return "No neurons are ranked: `neurons` is null."
    if found_by == Ranking.TEXT_VARIANCE and len(request.texts) < 2:
        return "Neurons vary between texts, and there is only one: give two or more."
    if found_by == Ranking.ATTRIBUTION and request.neurons.attribution is False:
        return "No attribution is measured: set `neurons.attribution` to true."
    return None


def _repeats(index: int, neurons: list[NeuronRef]) -> Iterator[FieldError]:
    seen: set[tuple[int, Block, int]] = set()
    for at, neuron in enumerate(neurons):
        key = (neuron.layer, neuron.block, neuron.neuron)
        if key in seen:
            detail = "The set names this neuron twice: name each once."
            yield FieldError(pointer=f"{_AT}/sets/{index}/neurons/{at}", detail=detail)
        seen.add(key)


def _unused(index: int, intervention: Intervention) -> Iterator[FieldError]:
    """Fields that say nothing, where they are not what they are without being given.

    Their values are compared: a stored request no longer tells which fields were given.
    """
    for field, kind in _UNUSED.items():
        default = Intervention.model_fields[field].default
        if intervention.kind is not kind and getattr(intervention, field) != default:
            detail = f"`{field}` says nothing to `{intervention.kind}`: it belongs to `{kind}`."
            yield FieldError(pointer=f"{_AT}/interventions/{index}/{field}", detail=detail)
    if intervention.kind is Intervening.SCALE and intervention.factor == 1.0:
        detail = "A factor of 1 changes nothing: name another."
        yield FieldError(pointer=f"{_AT}/interventions/{index}/factor", detail=detail)


def _neuron_errors(
    section: PerturbationSection, name: str, described: ModelDescription
) -> Iterator[FieldError]:
    count = len(described.layers)
    for index, given in enumerate(section.sets):
        for at, neuron in enumerate(given.neurons or []):
            pointer = f"{_AT}/sets/{index}/neurons/{at}"
            if neuron.layer >= count:
                detail = (
                    f"{name} has no layer {neuron.layer}: "
                    f"it has {count} layers, name one of 0 to {count - 1}."
                )
                yield FieldError(pointer=f"{pointer}/layer", detail=detail)
                continue
            size = described.layers[neuron.layer].neurons_of(neuron.block)
            if size is not None and neuron.neuron >= size:
                yield absent(pointer, name, neuron, size)


def absent(pointer: str, name: str, neuron: NeuronRef, size: int) -> FieldError:
    """The error of a neuron that is not among the `size` that its block has."""
    if not size:
        other = Block.MIXER if neuron.block is Block.MLP else Block.MLP
        detail = (
            f"Layer {neuron.layer} of {name} has no {neuron.block} whose neurons can be changed: "
            f"name its {other}, or another layer."
        )
        return FieldError(pointer=f"{pointer}/block", detail=detail)
    detail = (
        f"The {neuron.block} of layer {neuron.layer} of {name} has no neuron {neuron.neuron}: "
        f"it has {size} neurons, name one of 0 to {size - 1}."
    )
    return FieldError(pointer=f"{pointer}/neuron", detail=detail)


def _found_errors(
    request: JobRequest, section: PerturbationSection, name: str, described: ModelDescription
) -> Iterator[FieldError]:
    for index, given in enumerate(section.sets):
        if given.found_by is None or _not_asked_for(request, given.found_by) is not None:
            continue
        objection = _not_found(request, given.found_by, name, described)
        if objection is not None:
            yield FieldError(pointer=f"{_AT}/sets/{index}/found_by", detail=objection)


def _not_found(
    request: JobRequest, found_by: str, name: str, described: ModelDescription
) -> str | None:
    """Why nothing finds such neurons in one model, or None."""
    if isinstance(found_by, Method) and not select(request, described).layers:
        return f"{name} has none of the layers whose hidden attention `{found_by}` reads."
    if found_by == Ranking.ATTRIBUTION and not select(request, described).attributed:
        return (
            f"No layer of {name} needs a gradient, so none has an attribution: set "
            "`neurons.attribution` to true."
        )
    if found_by != Ranking.DELTA_VARIANCE:
        return None
    mixers = {described.layers[layer].mixer for layer in _within(request, described)}
    if Mixer.S6 in mixers:
        return None
    if Mixer.SSD in mixers:
        return (
            f"`{found_by}` ranks the heads of {name}, each of them many neurons: give the neurons "
            "one by one, or name another ranking."
        )
    return f"No layer that is read of {name} has a Delta: name another ranking or other layers."


def _within(request: JobRequest, described: ModelDescription) -> list[int]:
    """The layers whose neurons are ranked, of those that there are."""
    return [layer for layer in neuron_layers(request, described) if layer < len(described.layers)]


def _control_errors(
    section: PerturbationSection, case: Case, tokeniser: Tokeniser
) -> Generator[FieldError, None, int]:
    """What is wrong with the control texts; returns the tokens of those that can be read."""
    described, settings = case.described, case.settings
    limit = settings.max_row_tokens if described is None else described.max_row_tokens
    of_texts, total = sum(case.lengths), 0
    for index, text in enumerate(section.control_texts):
        pointer = f"{_AT}/control_texts/{index}"
        found = counted(tokeniser, case.whom, text, pointer)
        if isinstance(found, FieldError):
            yield found
            continue
        total += found
        yield from length_error(case, pointer, found, limit)
    if total and total + of_texts > settings.max_total_tokens:
        detail = (
            f"With these, the texts have {total + of_texts} tokens together in "
            f"{case.whom}; a job takes at most {settings.max_total_tokens}: give fewer."
        )
        yield FieldError(pointer=f"{_AT}/control_texts", detail=detail)
    return total
