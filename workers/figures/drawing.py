"""Every figure of a stored result."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas import artifact_names
from schemas.job import Shows
from schemas.names import Method
from schemas.result import ResultDocument, TextResult
from workers.figures.captions import subject
from workers.figures.overview import overview
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name, its PNG bytes, and what it is about."""

    name: str
    png: bytes
    shows: Shows


def draw(document: ResultDocument) -> Iterator[Drawing]:
    """Draw every figure of a result, one at a time, as it is asked for.

    For each model and text: a sheet per layer and method, a token strip per layer, an overview per
    method; nothing for a text without attention analysis. The names are those of
    `schemas.artifact_names`. Safe to run in several threads; nothing stays behind.

    Args:
        document: the stored result; no model and no tensor is needed.
    """
    for result in document.results:
        yield from _of_text(document, result)


def _of_text(document: ResultDocument, result: TextResult) -> Iterator[Drawing]:
    named = subject(document, result)
    methods: dict[Method, None] = {}
    for layer, analysed in result.attention_analysis.items():
        methods |= dict.fromkeys(analysed.methods)
        for method in analysed.methods:
            yield Drawing(
                artifact_names.sheet(named, method, layer),
                sheet(document, result, layer, method).render(),
                Shows(model=result.model, text=result.text_index, layer=layer, method=method),
            )
        if analysed.methods:
            yield Drawing(
                artifact_names.token_strip(named, layer),
                token_strip(document, result, layer).render(),
                Shows(model=result.model, text=result.text_index, layer=layer),
            )
    for method in methods:
        yield Drawing(
            artifact_names.overview(named, method),
            overview(document, result, method).render(),
            Shows(model=result.model, text=result.text_index, method=method),
        )
