"""A request and one of its models: what admission judges together."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from catalogue.cached import description, tokeniser
from catalogue.locate import Location
from catalogue.tokeniser import Tokeniser
from schemas.catalogue import ModelDescription
from schemas.problem import FieldError, ProblemError
from schemas.request import JobRequest
from schemas.settings import Settings


@dataclass(frozen=True)
class Case:
    """A request as one of its models sees it; None and no lengths for what files do not tell.

    lengths: tokens of the texts; refused: what is wrong with texts that the tokenizer cannot read.
    """

    request: JobRequest
    settings: Settings
    index: int
    described: ModelDescription | None
    tokens: Tokeniser | None
    lengths: list[int]
    refused: list[FieldError]

    @classmethod
    def of(cls, request: JobRequest, settings: Settings, index: int, location: Location) -> Self:
        """By what the model's files tell; broken ones are the worker's to report."""
        described = tokens = None
        with suppress(ProblemError):
            described = description(location, settings)
        if location.tokeniser_path is not None:
            with suppress(ProblemError):
                tokens = tokeniser(location.tokeniser_path)
        lengths, refused = ([], []) if tokens is None else _lengths(request, index, tokens)
        return cls(request, settings, index, described, tokens, lengths, refused)

    @property
    def whom(self) -> str:
        """The model as messages call it."""
        return f"`{self.request.models[self.index]}`"

    @property
    def size(self) -> int:
        """Tokens of all texts; bytes where no tokenizer tells."""
        if self.tokens is not None:
            return sum(self.lengths)
        return sum(len(text.encode()) for text in self.request.texts)


def _lengths(
    request: JobRequest, model: int, tokens: Tokeniser
) -> tuple[list[int], list[FieldError]]:
    """How many tokens each text has, and those that the tokenizer cannot read."""
    lengths, refused = [], []
    for index, text in enumerate(request.texts):
        found = counted(tokens, f"`{request.models[model]}`", text, f"/texts/{index}")
        if isinstance(found, FieldError):
            refused.append(found)
        else:
            lengths.append(found)
    return lengths, refused


def counted(tokens: Tokeniser, whom: str, text: str, pointer: str) -> int | FieldError:
    """How many tokens a text has in a model, or why its tokenizer cannot read it."""
    try:
        return tokens.count(text)
    except ValueError as error:
        detail = f"{whom} cannot read the text: {error}. Change the text or the model."
        return FieldError(pointer=pointer, detail=detail)
