"""Which figures a text has, and what they are drawn from. Loads no drawing library."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas import artifact_names
from schemas.artifact_names import Subject
from schemas.base import Contract
from schemas.job import Shows
from schemas.names import Method
from schemas.result import TextResult


class TextPart(Contract):
    """One text's part of a document: all that its figures are drawn from."""

    job_id: str
    subject: Subject
    result: TextResult


@dataclass(frozen=True)
class Figure:
    """A figure to be drawn: its file name and what it is about."""

    name: str
    shows: Shows


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name, its PNG bytes, and what it is about."""

    name: str
    png: bytes
    shows: Shows


def figures(part: TextPart) -> Iterator[Figure]:
    """A sheet per layer and method, a token strip per layer, an overview per method.

    None for a text without attention analysis. The names are those of `schemas.artifact_names`.
    """
    subject = part.subject
    methods: dict[Method, None] = {}
    for layer, analysed in part.result.attention_analysis.items():
        methods |= dict.fromkeys(analysed.methods)
        for method in analysed.methods:
            name = artifact_names.sheet(subject, method, layer)
            yield Figure(name, _shows(subject, layer, method))
        if analysed.methods:
            yield Figure(artifact_names.token_strip(subject, layer), _shows(subject, layer))
    for method in methods:
        yield Figure(artifact_names.overview(subject, method), _shows(subject, method=method))


def _shows(subject: Subject, layer: int | None = None, method: Method | None = None) -> Shows:
    return Shows(model=subject.model, text=subject.text, layer=layer, method=method)
