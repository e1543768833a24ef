"""Whether a model can be asked the facts of a request, and what a pass over one of them takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalogue.passing import PassBytes, pass_bytes
from catalogue.tokeniser import Tokeniser
from schemas.catalogue import ModelDescription
from schemas.problem import FieldError, ProblemError
from schemas.request import JobRequest
from schemas.sections import Fact, KnowledgeNeuronSection
from schemas.settings import GIB, Settings

_AT = "/knowledge_neurons"
# Bytes of one entry of a token's logits: as they are made, in float64, their logarithms, and the
# gradients of all three.
_LOGIT = 2 * (4 + 8 + 8)
# Bytes of one neuron at one token: as it is, scaled, its gradient, and their product.
_NEURON = 5 * 4


@dataclass(frozen=True)
class PathBytes:
    """What rows of equal length take in a pass whose gradient ends at one block's neurons."""

    passing: PassBytes
    length: int
    neurons: int
    vocabulary: int

    def of(self, rows: int, answers: int) -> int:
        """Bytes of so many rows whose answers have so many tokens together."""
        tokens = rows * self.length
        read = answers * self.vocabulary * _LOGIT
        return self.passing.of(tokens) + tokens * self.neurons * _NEURON + read


def path_bytes(model: ModelDescription, layer: int, neurons: int, length: int) -> PathBytes:
    """What a pass takes whose gradient ends at `neurons` neurons of a layer, `length` tokens a row.

    An upper bound, like those of `catalogue.passing`; a layer beyond the last keeps no graph.
    """
    # What is kept begins inside the layer, so above the one before it.
    gradient = [layer - 1] if layer < len(model.layers) else []
    # Such a pass is always whole, as those on a GPU are.
    return PathBytes(
        passing=pass_bytes(model, 0, gradient, length, on_gpu=True),
        length=length,
        neurons=neurons,
        vocabulary=model.vocab_size,
    )


def fact_errors(
    request: JobRequest, tokeniser: Tokeniser, described: ModelDescription, settings: Settings
) -> Iterator[FieldError]:
    """What is wrong with the facts of a request for one model; nothing where none are asked for.

    Costs two tokenisations of each prompt.
    """
    section = request.knowledge_neurons
    if section is None:
        return
    model, total = _Model(tokeniser, described), 0
    for index, fact in enumerate(section.facts):
        pointer = f"{_AT}/facts/{index}"
        yield from _repeated(fact, pointer)
        for at, prompt in _prompts(fact, pointer):
            length, error = model.asked(fact, prompt, at, pointer)
            total += length
            if error is not None:
                yield error
    if total * section.steps > settings.max_total_tokens:
        detail = (
            f"The prompts have {total} tokens together in {model.whom}, which pass {section.steps} "
            f"times each; {settings.max_total_tokens} tokens may pass: send fewer or shorter "
            "prompts, or ask for fewer `steps`."
        )
        yield FieldError(pointer=f"{_AT}/facts", detail=detail)


def require_fitting_facts(
    section: KnowledgeNeuronSection,
    tokeniser: Tokeniser,
    described: ModelDescription,
    layers: Sequence[int],
    room: int,
) -> None:
    """Raise ProblemError(INVALID_REQUEST) unless each prompt passes by itself within `room` bytes.

    layers: whose neurons the gradients end at.
    """
    widest = [described.layers[layer] for layer in layers]
    for index, fact in enumerate(section.facts):
        for at, prompt in _prompts(fact, f"{_AT}/facts/{index}"):
            length = len(tokeniser.ids(prompt + fact.answer))
            answer = length - len(tokeniser.ids(prompt))
            neurons = max(max(layer.channels or 0, described.mlp_channels or 0) for layer in widest)
            taken = path_bytes(described, min(layers), neurons, length).of(1, answer)
            if taken > room:
                detail = (
                    f"The prompt has {length} tokens with its answer in `{described.id}`, whose "
                    f"gradient takes {taken / GIB:.2f} GiB of memory; there are {room / GIB:.2f} "
                    "GiB for it: shorten it, or name higher layers."
                )
                raise ProblemError.of_field(FieldError(pointer=at, detail=detail))


def _prompts(fact: Fact, pointer: str) -> list[tuple[str, str]]:
    """(pointer, prompt) of a fact's prompt and of its paraphrases."""
    paraphrases = enumerate(fact.paraphrases)
    return [
        (f"{pointer}/prompt", fact.prompt),
        *((f"{pointer}/paraphrases/{i}", text) for i, text in paraphrases),
    ]


def _repeated(fact: Fact, pointer: str) -> Iterator[FieldError]:
    """Prompts that stand twice in a fact, and so would count twice."""
    seen: set[str] = set()
    for at, prompt in _prompts(fact, pointer):
        if prompt in seen:
            yield FieldError(pointer=at, detail="The fact has this prompt already: leave it out.")
        seen.add(prompt)


@dataclass(frozen=True)
class _Model:
    """One model as far as its facts go."""

    tokeniser: Tokeniser
    described: ModelDescription

    @property
    def whom(self) -> str:
        return f"`{self.described.id}`"

    def asked(
        self, fact: Fact, prompt: str, at: str, pointer: str
    ) -> tuple[int, FieldError | None]:
        """How many tokens the prompt has, and what is wrong with it or with its answer."""
        try:
            before, ids = self.tokeniser.ids(prompt), self.tokeniser.ids(prompt + fact.answer)
        except ValueError as error:
            detail = f"{self.whom} cannot read the prompt with its answer: {error}. Change either."
            return 0, FieldError(pointer=at, detail=detail)
        # An answer that does not fit the fact's own prompt is at fault itself.
        answer_at = f"{pointer}/answer" if at.endswith("/prompt") else at
        passing, limit = len(ids) - 1, self.described.max_tokens
        if not before:
            detail = f"The prompt has no token in {self.whom}: give at least one word."
            return 0, FieldError(pointer=at, detail=detail)
        if len(ids) <= len(before) or ids[: len(before)] != before:
            detail = self._not_continued(fact.answer)
            return len(before), FieldError(pointer=answer_at, detail=detail)
        if self.tokeniser.unknown_id in ids[len(before) :]:
            detail = (
                f"{self.whom} has no token for a part of the answer {fact.answer[:40]!r}: give one "
                "whose every token is in the model's vocabulary."
            )
            return len(before), FieldError(pointer=answer_at, detail=detail)
        if passing > limit:
            detail = (
                f"The prompt and its answer have {passing} tokens to read in {self.whom}, which "
                f"takes at most {limit}: shorten it. Prompts are never cut."
            )
            return len(before), FieldError(pointer=at, detail=detail)
        return len(before), None

    def _not_continued(self, answer: str) -> str:
        """Why an answer that is no continuation is refused, and the mend that fits it."""
        joined = (
            f"To {self.whom} the answer {answer[:40]!r} does not begin with a token of its own "
            "after this prompt"
        )
        if answer[0].isspace():
            return f"{joined}: leave out the space at the prompt's end, or change the answer."
        return (
            f"{joined}: give the space before it, {f' {answer[:40]}'!r}, and none after the prompt."
        )
