"""What a job has found, as far as it is at hand without asking the service again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mambascope.client.errors import NotFound, TensorsNotStored
from mambascope.client.markup import analysis_html
from mambascope.client.service import Service
from mambascope.client.tables import Row, Table, rows
from mambascope.visible import counted
from schemas.job import Artifact, Job, Shows
from schemas.names import ArtifactKind, Block, Method, Section
from schemas.problem import Problem, ProblemType
from schemas.result import ResultDocument, TextResult

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Figure:
    """A picture; a notebook shows it where it is the value of a cell."""

    name: str
    shows: Shows
    png: bytes = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write it to a file, or under its own name into a directory that there is."""
        place = Path(path)
        place = place / self.name if place.is_dir() else place
        place.write_bytes(self.png)
        return place

    def _repr_png_(self) -> bytes:
        return self.png


class Findings:
    """The result of a job that has succeeded, and the list of its files."""

    def __init__(
        self, service: Service, job: Job, result: ResultDocument, artifacts: list[Artifact]
    ) -> None:
        self._service = service
        self.job = job
        self.result = result
        """The document, whole and typed."""
        self.artifacts = artifacts
        """Every file: name, size, SHA-256 and what it shows."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def models(self) -> list[str]:
        """The models that were asked."""
        return list(self.job.request.models)

    @property
    def texts(self) -> list[TextResult]:
        """One result per model and text."""
        return self.result.results

    def text(self, index: int = 0, model: str | None = None) -> TextResult:
        """One text under one model, the first by default. Raises LookupError."""
        model = self.models[0] if model is None else model
        for result in self.result.results:
            if (result.text_index, result.model) == (index, model):
                return result
        last = len(self.job.request.texts) - 1
        raise LookupError(
            f"There is no text {index} of {model!r}: the job has texts 0 to {last} "
            f"of {', '.join(self.models)}."
        )

    def relevance(
        self,
        text: int = 0,
        model: str | None = None,
        *,
        layer: int | None = None,
        method: Method | str | None = None,
    ) -> list[tuple[str, float]]:
        """Each token and its relevance: by default at the highest layer, by the first method.

        Raises LookupError where that was not read.
        """
        result = self.text(text, model)
        read = result.attention_analysis
        if not read:
            why = result.attention_unavailable_reason
            raise LookupError(f"No attention of {result.model} was read. {why}")
        layer = max(read) if layer is None else layer
        if layer not in read:
            raise LookupError(f"Layer {layer} was not read; {', '.join(map(str, read))} were.")
        methods = {kind.value: found for kind, found in read[layer].methods.items()}
        name = next(iter(methods)) if method is None else str(method)
        if name not in methods:
            raise LookupError(f"{name} was not asked for; {', '.join(methods)} were.")
        tokens = (token.text for token in result.tokens)
        return list(zip(tokens, methods[name].token_relevance, strict=True))

    def rows(self, what: Table = "tokens") -> list[Row]:
        """The rows of `to_dataframe` as dictionaries. Raises ValueError for an unknown table."""
        return rows(self.result, what)

    def to_dataframe(self, what: Table = "tokens") -> "pandas.DataFrame":
        """Tidy rows, one per measured thing. Raises ImportError without pandas, and as `rows`."""
        found = self.rows(what)
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "A data frame needs pandas: pip install 'mambascope[notebook]'. "
                "`rows` has the same without it."
            ) from error
        return pandas.DataFrame(found)

    def figures(
        self,
        *,
        section: Section | str | None = None,
        model: str | None = None,
        text: int | None = None,
        layer: int | None = None,
        block: Block | str | None = None,
        method: Method | str | None = None,
    ) -> list[str]:
        """Names of the figures, or of those that show what is given."""
        asked = {
            "section": section,
            "model": model,
            "text": text,
            "layer": layer,
            "block": block,
            "method": method,
        }
        wanted = {name: value for name, value in asked.items() if value is not None}
        return [
            artifact.name
            for artifact in self.artifacts
            if artifact.kind is ArtifactKind.FIGURE
            and all(getattr(artifact.shows, name) == value for name, value in wanted.items())
        ]

    def _artifact(self, name: str) -> Artifact:
        """The entry of a file. Raises NotFound."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        detail = (
            f"The job has no artifact `{name}`. See `artifacts`, and `figures()` for the figures."
        )
        raise NotFound(Problem.of(ProblemType.NOT_FOUND, detail))

    def _tensor_file(self) -> Artifact:
        """The entry of the tensors. Raises TensorsNotStored."""
        for artifact in self.artifacts:
            if artifact.kind is ArtifactKind.TENSORS:
                return artifact
        why = "no method could read the models"
        if not self.job.request.tensors:
            why = "they were not asked for: give tensors=True"
        raise TensorsNotStored(f"Job {self.id} left no tensors; {why}.")

    def __repr__(self) -> str:
        texts = counted(len(self.job.request.texts), "text")
        names = ", ".join(self.models)
        files = counted(len(self.artifacts), "file")
        return f"<{type(self).__name__} {self.id}: {texts} of {names}, {files}>"

    def _repr_html_(self) -> str:
        return analysis_html(self.job, self.result, len(self.artifacts))
