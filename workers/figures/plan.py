"""Which figures a job has, and what they are drawn from. Loads no drawing library."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas import artifact_names
from schemas.artifact_names import Subject
from schemas.base import Contract
from schemas.comparison import Comparison
from schemas.job import Shows
from schemas.names import Method
from schemas.result import TextResult, Token


class TextPart(Contract):
    """One text's part of a document: all that its figures are drawn from."""

    job_id: str
    subject: Subject
    result: TextResult


class ComparedModel(Contract):
    """One text under one model: each token's share of the relevance, by method.

    position is the target's and target its token; layers, how many were read.
    """

    model: str
    target: str
    position: int
    layers: int
    tokens: list[Token]
    shares: dict[Method, list[float]]


class ComparedText(Contract):
    """One text under every model that a method has read."""

    text_index: int
    text: str
    models: list[ComparedModel]


class ComparisonPart(Contract):
    """The part of a document that puts models side by side."""

    job_id: str
    comparison: Comparison
    texts: list[ComparedText]


Part = TextPart | ComparisonPart


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


def figures(part: Part) -> Iterator[Figure]:
    """Every figure of a part. The names are those of `schemas.artifact_names`."""
    if isinstance(part, ComparisonPart):
        yield from _of_comparison(part)
    else:
        yield from _of_text(part)


def _of_comparison(part: ComparisonPart) -> Iterator[Figure]:
    """The tokens per text and method, the depths per method."""
    several = len(part.texts) > 1
    methods = dict.fromkeys(profile.method for profile in part.comparison.profiles)
    for text in part.texts:
        for method in methods:
            name = artifact_names.compared_tokens(text.text_index, several, method)
            yield Figure(name, Shows(text=text.text_index, method=method))
    for method in methods:
        yield Figure(artifact_names.compared_depths(method), Shows(method=method))


def _of_text(part: TextPart) -> Iterator[Figure]:
    """A sheet per layer and method, a token strip per layer, an overview per method.

    None for a text without attention analysis.
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
