"""Whether the neurons of a job's models can be compared, and the memory that this takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.catalogue import ModelDescription
from schemas.names import Block
from schemas.problem import FieldError
from schemas.request import JobRequest, select_layers
from schemas.sections import FEWEST_SHARED_TOKENS, UniversalitySection
from schemas.settings import GIB

_FLOAT = 4
# A neuron's two correlations and its match in the result, as objects and as text, of one direction.
_REPORTED = 320
# Numbers of which a search for matches holds so many at once, whatever the models.
_SEARCHED = 1 << 23
# Random weights of that many rotated neurons are held at once, drawn and scaled.
_DRAWN = 1024


@dataclass(frozen=True)
class Compared:
    """A model whose neurons are compared; no lengths where its tokenizer is not known yet."""

    model: ModelDescription
    lengths: Sequence[int]

    def widths(self, request: JobRequest, section: UniversalitySection) -> list[int]:
        """Neurons of each block of the request's layers, at most."""
        blocks = section.blocks or list(Block)
        return [
            self.model.neurons_at_most(layer, block)
            for layer in select_layers(request.layers, len(self.model.layers))
            for block in blocks
        ]

    def tokens(self, section: UniversalitySection) -> int:
        """Tokens that are compared, at most."""
        return min(section.max_tokens, sum(self.lengths)) if self.lengths else section.max_tokens


def universality_errors(
    request: JobRequest, models: Sequence[Compared], budget: int
) -> Iterator[FieldError]:
    """What is wrong with the section, as far as the models whose every other field is right tell.

    How many tokens the models share is seen once all their tokenizers have read the texts; no more
    than any of them has. `neurons` may be null: nothing of it is needed.
    """
    section = request.universality
    if section is None:
        return
    if len(request.models) < 2:
        detail = (
            "The neurons of several models are compared, and the request names one: name at least "
            "two in `models`, or leave `universality` out."
        )
        yield FieldError(pointer="/universality", detail=detail)
        return
    yield from _too_few_tokens(models)
    yield from _too_much_memory(request, section, models, budget)


def sample_bytes(request: JobRequest, compared: Compared) -> int:
    """What a job keeps of one model's activations until all its models have run; 0 without it."""
    section = request.universality
    if section is None:
        return 0
    return _FLOAT * compared.tokens(section) * sum(compared.widths(request, section))


def matching_bytes(request: JobRequest, models: Sequence[Compared]) -> int:
    """What comparing the samples takes beside them, and its part of the result; 0 without it."""
    section = request.universality
    if section is None or not models:
        return 0
    widths = [compared.widths(request, section) for compared in models]
    widest = max((width for of_model in widths for width in of_model), default=0)
    tokens = max(compared.tokens(section) for compared in models)
    # A block of either model, one of them turned and shuffled, what turns it, correlations.
    search = 4 * tokens * widest + 2 * _DRAWN * widest + _SEARCHED
    reported = sum(map(sum, widths)) * (len(models) - 1)
    return _FLOAT * search + _REPORTED * reported


def _too_few_tokens(models: Sequence[Compared]) -> Iterator[FieldError]:
    for compared in models:
        tokens = sum(compared.lengths)
        if compared.lengths and tokens < FEWEST_SHARED_TOKENS:
            detail = (
                f"The texts have {tokens} tokens together in `{compared.model.id}`; "
                f"`universality` compares neurons over at least {FEWEST_SHARED_TOKENS}, and over "
                "some hundreds to mean much: give more or longer texts."
            )
            yield FieldError(pointer="/texts", detail=detail)


def _too_much_memory(
    request: JobRequest, section: UniversalitySection, models: Sequence[Compared], budget: int
) -> Iterator[FieldError]:
    def needed(tokens: int) -> int:
        changed = request.model_copy(
            update={"universality": section.model_copy(update={"max_tokens": tokens})}
        )
        samples = sum(sample_bytes(changed, compared) for compared in models)
        return samples + matching_bytes(changed, models)

    tokens = min((compared.tokens(section) for compared in models), default=0)
    if not models or needed(tokens) <= budget:
        return
    fixed = needed(0)
    fitting = (budget - fixed) * tokens // (needed(tokens) - fixed)
    fewer = f"set `max_tokens` to {fitting} or less, " if fitting >= FEWEST_SHARED_TOKENS else ""
    # Rounded up, so that it never reads as what is allowed.
    gib = -(-100 * needed(tokens) // GIB) / 100
    detail = (
        f"Samples of {tokens} tokens of all models' neurons take {gib:.2f} GiB; a "
        f"job may use {budget / GIB:.2f} GiB: {fewer}name fewer layers, or one of `blocks`."
    )
    yield FieldError(pointer="/universality/max_tokens", detail=detail)
