"""Whether a request fits the models it names. Asked before the queue, and again by the worker."""

from collections.abc import Iterator
from itertools import islice

from catalogue.budget import memory_error, tensors_error
from catalogue.case import Case
from catalogue.facts import fact_errors
from catalogue.figures import figure_errors
from catalogue.locate import UnknownModel, locate
from catalogue.memory import result_bytes, tensor_bytes
from catalogue.perturbation import intervention_errors, perturbation_errors
from catalogue.texts import length_errors, target_errors
from catalogue.universality import (
    Compared,
    matching_bytes,
    sample_bytes,
    universality_errors,
)
from catalogue.workload import workload
from schemas.catalogue import ModelDescription
from schemas.problem import FieldError, ProblemError, ProblemType, and_more
from schemas.request import JobRequest
from schemas.settings import Settings

# A list of layers may hold as many faults as a body has room for; nobody reads more than some.
_MOST_ERRORS = 100


def admit(request: JobRequest, settings: Settings) -> int:
    """The tokens of all texts over all models, or ProblemError(INVALID_REQUEST) with what is wrong.

    What needs files that are not on this disk, or that are broken, is not judged: the worker asks
    again once it has the model, and a model that cannot be read fails there with its own problem.
    Where the tokenizer is not here either, a text counts as its bytes, which are no fewer. Costs
    one tokenisation of each text per model.
    """
    sound: list[Case] = []
    _require_none(_errors(request, settings, sound))
    return sum(case.size for case in sound)


def require_lengths(
    request: JobRequest,
    settings: Settings,
    index: int,
    described: ModelDescription,
    lengths: list[int],
) -> None:
    """As `admit`, of the texts' lengths alone, for a model that tells more once it is loaded."""
    case = Case(request, settings, index, described, None, lengths, [])
    _require_none(length_errors(case))


def _require_none(found: Iterator[FieldError]) -> None:
    errors = list(islice(found, _MOST_ERRORS))
    if errors:
        detail = errors[0].detail + and_more(errors)
        raise ProblemError(ProblemType.INVALID_REQUEST, detail, errors)


def _errors(request: JobRequest, settings: Settings, sound: list[Case]) -> Iterator[FieldError]:
    """What is wrong with a request; models with which nothing is come into `sound`."""
    if len(request.texts) > settings.max_texts:
        detail = (
            f"There are {len(request.texts)} texts; a job takes at most {settings.max_texts}: "
            "send several jobs."
        )
        yield FieldError(pointer="/texts", detail=detail)
        return
    yield from intervention_errors(request)
    for index, name in enumerate(request.models):
        try:
            location = locate(name, settings)
        except UnknownModel as error:
            yield FieldError(pointer=f"/models/{index}", detail=str(error))
            continue
        case = Case.of(request, settings, index, location)
        errors = list(islice(_model_errors(case), _MOST_ERRORS))
        yield from errors
        if not errors:
            sound.append(case)
    compared = [Compared(c.described, c.lengths) for c in sound if c.described is not None]
    yield from universality_errors(request, compared, settings.job_memory_bytes)
    yield from figure_errors(sound)
    yield from _memory_errors(sound)


def _model_errors(case: Case) -> Iterator[FieldError]:
    if case.described is not None:
        yield from _layer_errors(case, case.described)
    if case.refused:
        yield from case.refused
    elif case.tokens is not None:
        yield from length_errors(case)
        yield from target_errors(case, case.lengths, case.tokens)
    yield from perturbation_errors(case)
    if case.tokens is not None and case.described is not None:
        yield from fact_errors(case.request, case.tokens, case.described, case.settings)


def _layer_errors(case: Case, described: ModelDescription) -> Iterator[FieldError]:
    count, request = len(described.layers), case.request
    asked = {"/layers": request.layers}
    if request.attention is not None:
        asked["/attention/layers"] = request.attention.layers
    other = ", or leave the model out" if len(request.models) > 1 else ""
    for pointer, layers in asked.items():
        for index, layer in enumerate(layers if isinstance(layers, list) else []):
            if layer >= count:
                detail = (
                    f"{case.whom} has no layer {layer}: "
                    f"it has {count} layers, name one of 0 to {count - 1}{other}."
                )
                yield FieldError(pointer=f"{pointer}/{index}", detail=detail)


def _memory_errors(cases: list[Case]) -> Iterator[FieldError]:
    """What is over the budget, of the models whose every other field is right."""
    known = [(c, c.described) for c in cases if c.described is not None and c.lengths]
    works = {
        case.index: workload(case.request, described, case.lengths, case.settings)
        for case, described in known
    }
    if not works:
        return
    settings = cases[0].settings
    tensors = tensors_error(sum(map(tensor_bytes, works.values())), settings.max_tensor_bytes)
    if tensors is not None:
        yield tensors
        return
    compared = [Compared(described, case.lengths) for case, described in known]
    request = cases[0].request
    samples = sum(sample_bytes(request, each) for each in compared)
    results = sum(map(result_bytes, works.values())) + samples + matching_bytes(request, compared)
    for index, work in works.items():
        error = memory_error(index, work, results, settings.job_memory_bytes)
        if error is not None:
            yield error
