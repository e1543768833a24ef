"""Whether a request fits the models it names. Asked before the queue, and again by the worker."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from catalogue.budget import memory_error, tensors_error
from catalogue.cached import description, tokeniser
from catalogue.facts import fact_errors
from catalogue.locate import Location, UnknownModel, locate
from catalogue.memory import result_bytes, tensor_bytes
from catalogue.perturbation import Reader, intervention_errors, perturbation_errors
from catalogue.selection import select
from catalogue.tokeniser import Tokeniser
from catalogue.universality import (
    Compared,
    matching_bytes,
    sample_bytes,
    universality_errors,
)
from catalogue.workload import workload
from schemas.artifact_names import (
    averages_figure_count,
    comparison_figure_count,
    figure_count,
    neuron_figure_count,
)
from schemas.catalogue import ModelDescription
from schemas.names import Block, Method
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
    sound: list[_Subject] = []
    _require_none(_errors(request, settings, sound))
    return sum(subject.size for subject in sound)


def require_lengths(
    request: JobRequest,
    settings: Settings,
    index: int,
    described: ModelDescription,
    lengths: list[int],
) -> None:
    """As `admit`, of the texts' lengths alone, for a model that tells more once it is loaded."""
    subject = _Subject(request, settings, index, described, None, lengths, [])
    _require_none(_length_errors(subject))


def _require_none(found: Iterator[FieldError]) -> None:
    errors = list(islice(found, _MOST_ERRORS))
    if errors:
        detail = errors[0].detail + and_more(errors)
        raise ProblemError(ProblemType.INVALID_REQUEST, detail, errors)


@dataclass(frozen=True)
class _Subject:
    """The request as one model sees it; None and no lengths for what its files do not tell."""

    request: JobRequest
    settings: Settings
    index: int
    described: ModelDescription | None
    tokens: Tokeniser | None
    lengths: list[int]
    refused: list[FieldError]

    @property
    def whom(self) -> str:
        return f"`{self.request.models[self.index]}`"

    @property
    def size(self) -> int:
        """Tokens of all texts; bytes where no tokenizer tells."""
        if self.tokens is not None:
            return sum(self.lengths)
        return sum(len(text.encode()) for text in self.request.texts)


def _errors(request: JobRequest, settings: Settings, sound: list[_Subject]) -> Iterator[FieldError]:
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
        subject = _subject(request, settings, index, location)
        errors = list(islice(_model_errors(subject), _MOST_ERRORS))
        yield from errors
        if not errors:
            sound.append(subject)
    compared = [Compared(s.described, s.lengths) for s in sound if s.described is not None]
    yield from universality_errors(request, compared, settings.job_memory_bytes)
    yield from _figure_errors(sound)
    yield from _memory_errors(sound)


def _subject(request: JobRequest, settings: Settings, index: int, location: Location) -> _Subject:
    """What the model's files tell; broken ones are the worker's to report, as the job's problem."""
    described = tokens = None
    with suppress(ProblemError):
        described = description(location, settings)
    if location.tokeniser_path is not None:
        with suppress(ProblemError):
            tokens = tokeniser(location.tokeniser_path)
    lengths, refused = ([], []) if tokens is None else _lengths(request, index, tokens)
    return _Subject(request, settings, index, described, tokens, lengths, refused)


def _lengths(
    request: JobRequest, model: int, tokens: Tokeniser
) -> tuple[list[int], list[FieldError]]:
    """How many tokens each text has, and those that the tokenizer cannot read."""
    lengths, refused = [], []
    for index, text in enumerate(request.texts):
        try:
            lengths.append(tokens.count(text))
        except ValueError as error:
            detail = (
                f"`{request.models[model]}` cannot read the text: {error}. "
                "Change the text or the model."
            )
            refused.append(FieldError(pointer=f"/texts/{index}", detail=detail))
    return lengths, refused


def _model_errors(subject: _Subject) -> Iterator[FieldError]:
    if subject.described is not None:
        yield from _layer_errors(subject, subject.described)
    if subject.refused:
        yield from subject.refused
    elif subject.tokens is not None:
        yield from _length_errors(subject)
        yield from _target_errors(subject, subject.lengths, subject.tokens)
    reader = Reader(subject.whom, subject.described, subject.tokens, sum(subject.lengths))
    yield from perturbation_errors(subject.request, reader, subject.settings)
    if subject.tokens is not None and subject.described is not None:
        yield from fact_errors(subject.request, subject.tokens, subject.described, subject.settings)


def _layer_errors(subject: _Subject, described: ModelDescription) -> Iterator[FieldError]:
    count, request = len(described.layers), subject.request
    asked = {"/layers": request.layers}
    if request.attention is not None:
        asked["/attention/layers"] = request.attention.layers
    other = ", or leave the model out" if len(request.models) > 1 else ""
    for pointer, layers in asked.items():
        for index, layer in enumerate(layers if isinstance(layers, list) else []):
            if layer >= count:
                detail = (
                    f"{subject.whom} has no layer {layer}: "
                    f"it has {count} layers, name one of 0 to {count - 1}{other}."
                )
                yield FieldError(pointer=f"{pointer}/{index}", detail=detail)


def _figure_errors(subjects: list[_Subject]) -> Iterator[FieldError]:
    if not subjects:
        return
    request, limit = subjects[0].request, subjects[0].settings.max_figures
    if not request.figures:
        return
    methods = () if request.attention is None else request.attention.methods
    texts, count = len(request.texts), int(request.universality is not None)
    if methods and len(subjects) > 1:
        count += comparison_figure_count(texts, len(methods))
    for subject in subjects:
        if subject.described is not None:
            chosen = select(request, subject.described)
            count += texts * figure_count(len(chosen.layers), len(methods))
            count += averages_figure_count(len(chosen.layers), texts)
            if request.neurons is not None:
                asked = request.neurons.blocks or tuple(Block)
                layers = (subject.described.layers[layer] for layer in chosen.neurons)
                blocks = sum(layer.neurons_of(of) != 0 for layer in layers for of in asked)
                count += neuron_figure_count(blocks)
            count += request.knowledge_neurons is not None
            count += request.perturbation is not None
    if count > limit:
        detail = (
            f"The job would draw {count} figures; one job may draw {limit}: set `figures` to "
            "false, or ask for fewer texts, layers or models."
        )
        yield FieldError(pointer="/figures", detail=detail)


def _length_errors(subject: _Subject) -> Iterator[FieldError]:
    settings, lengths = subject.settings, subject.lengths
    limit, hint = _longest(subject)
    for index, length in enumerate(lengths):
        pointer = f"/texts/{index}"
        if length == 0:
            detail = f"The text has no token in {subject.whom}: give at least one word."
            yield FieldError(pointer=pointer, detail=detail)
        elif length > limit:
            detail = (
                f"The text has {length} tokens in {subject.whom}, which takes at most {limit}"
                f"{hint}: shorten it or split it. Texts are never cut."
            )
            yield FieldError(pointer=pointer, detail=detail)
    total = sum(lengths)
    if total > settings.max_total_tokens:
        detail = (
            f"The texts have {total} tokens together in {subject.whom}; a job takes at most "
            f"{settings.max_total_tokens}: send several jobs."
        )
        yield FieldError(pointer="/texts", detail=detail)
    attention = subject.request.attention
    wants_all_rows = (
        attention is not None
        and Method.CONTRIBUTION in attention.methods
        and attention.rows_of(Method.CONTRIBUTION) == "all"
    )
    longest = max(lengths)
    if wants_all_rows and longest > settings.max_contribution_tokens:
        detail = (
            f"Text {lengths.index(longest)} has {longest} tokens in {subject.whom}; `all` takes at "
            f"most {settings.max_contribution_tokens} a text: use `target` or a shorter text."
        )
        yield FieldError(pointer="/attention/rows", detail=detail)


def _longest(subject: _Subject) -> tuple[int, str]:
    """Tokens that a text may have as it is to be read, and what would allow more."""
    described, attention = subject.described, subject.request.attention
    if described is None:
        return subject.settings.max_tokens, ""
    reads_rows = attention is None or all(
        attention.rows_of(method) == "target" for method in attention.methods
    )
    if reads_rows:
        return described.max_row_tokens, ""
    if described.max_row_tokens == described.max_tokens:
        return described.max_tokens, ""
    hint = f" (up to {described.max_row_tokens} with `attention.rows` set to `target`)"
    return described.max_tokens, hint


def _target_errors(
    subject: _Subject, lengths: list[int], tokens: Tokeniser
) -> Iterator[FieldError]:
    target = subject.request.target
    for index, length in enumerate(lengths):
        if length and not -length <= target.position < length:
            detail = (
                f"Text {index} has no position {target.position}: it has {length} tokens in "
                f"{subject.whom}, name one of {-length} to {length - 1}."
            )
            yield FieldError(pointer="/target/position", detail=detail)
    named = set()
    for field, string in (("token", target.token), ("contrast", target.contrast)):
        if string is None:
            continue
        try:
            token = tokens.single_token(string)
        except ValueError as error:
            detail = f"Name exactly one token of {subject.whom}: {error}."
            yield FieldError(pointer=f"/target/{field}", detail=detail)
            continue
        if token in named:
            detail = (
                f"This is the token itself to {subject.whom}, and the difference of a logit from "
                "itself is always 0: name another token."
            )
            yield FieldError(pointer=f"/target/{field}", detail=detail)
        named.add(token)


def _memory_errors(subjects: list[_Subject]) -> Iterator[FieldError]:
    """What is over the budget, of the models whose every other field is right."""
    known = [(s, s.described) for s in subjects if s.described is not None and s.lengths]
    works = {
        subject.index: workload(subject.request, described, subject.lengths, subject.settings)
        for subject, described in known
    }
    if not works:
        return
    settings = subjects[0].settings
    tensors = tensors_error(sum(map(tensor_bytes, works.values())), settings.max_tensor_bytes)
    if tensors is not None:
        yield tensors
        return
    compared = [Compared(described, subject.lengths) for subject, described in known]
    request = subjects[0].request
    samples = sum(sample_bytes(request, each) for each in compared)
    results = sum(map(result_bytes, works.values())) + samples + matching_bytes(request, compared)
    for index, work in works.items():
        error = memory_error(index, work, results, settings.job_memory_bytes)
        if error is not None:
            yield error
