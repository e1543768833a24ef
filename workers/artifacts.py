"""The files of one attempt: figures as they get drawn, then the tensors and the document."""

from collections import deque
from collections.abc import Sequence

from jobs.artifacts import ArtifactWriter
from schemas.job import Artifact, Shows
from schemas.names import RESULT_FILE, TENSORS_FILE, ArtifactKind
from workers.figures.parts import Part
from workers.figures.plan import Drawing, figures
from workers.figures.studio import Drawings
from workers.forecasting.efforts import storing_seconds
from workers.forecasting.forecast import Phase
from workers.progress import Report

_MEDIA_TYPES = {
    ArtifactKind.RESULT: "application/json",
    ArtifactKind.FIGURE: "image/png",
    ArtifactKind.TENSORS: "application/octet-stream",
}


class Artifacts:
    """Has figures drawn, and stores each file under the attempt's token."""

    def __init__(self, writer: ArtifactWriter, drawings: Drawings, report: Report) -> None:
        self._writer = writer
        self._drawings = drawings
        self._report = report
        self._stored: dict[str, Artifact] = {}
        self._begun: dict[str, Shows] = {}
        self._heard: deque[Drawing] = deque()
        report.hear = self._hear

    def draw(self, part: Part) -> list[str]:
        """Have a part drawn; the names of its figures."""
        self._drawings.begin(part)
        begun = {figure.name: figure.shows for figure in figures(part)}
        self._begun |= begun
        return list(begun)

    def store_drawn(self) -> None:
        """Store the figures that are there already. Raises what drawing one raised."""
        self._hear()
        while self._heard:
            self._store_figure(self._heard.popleft())
        self._drawings.require_sound()

    def collect(self, expected: Sequence[str]) -> None:
        """Wait for the figures that are still being drawn; `expected` are all, in their order."""
        self._report.over(Phase.MATCHING)
        self.store_drawn()
        self._report.collect(
            shows for name, shows in self._begun.items() if name not in self._stored
        )
        if not (expected or self._begun):
            return
        drawings = self._drawings.collect()
        while True:
            drawn = len(self._stored)
            detail = f"figure {min(drawn + 1, len(expected))} of {len(expected)}"
            with self._report.doing(Phase.DRAWING, detail=detail):
                drawing = next(drawings, None)
                if drawing is None:
                    break
                self._report.drawn(drawing.shows)
            self._store_figure(drawing)
        if self._stored.keys() != set(expected):
            differ = self._stored.keys() ^ set(expected)
            raise RuntimeError(f"figures named and figures drawn differ: {differ}")
        self._stored = {name: self._stored[name] for name in expected}

    def store_tensors(self, data: bytes) -> None:
        """Store the tensors' file."""
        self._store(TENSORS_FILE, data, ArtifactKind.TENSORS, Shows())

    def store_result(self, data: bytes) -> None:
        """Store the document."""
        self._store(RESULT_FILE, data, ArtifactKind.RESULT, Shows())

    def _hear(self) -> None:
        """Count what was drawn since, while the job computes; storing it can wait."""
        for drawing in self._drawings.ready():
            self._report.drawn(drawing.shows, drawing.seconds)
            self._heard.append(drawing)

    @property
    def listed(self) -> list[Artifact]:
        """All that were stored, the document first."""
        first = self._stored[RESULT_FILE]
        return [first, *(each for name, each in self._stored.items() if name != RESULT_FILE)]

    def _store_figure(self, drawing: Drawing) -> None:
        self._store(drawing.name, drawing.png, ArtifactKind.FIGURE, drawing.shows)

    def _store(self, name: str, data: bytes, kind: ArtifactKind, shows: Shows) -> None:
        with self._report.doing(Phase.STORING, detail=f"storing {name}"):
            written = self._writer.put(name, data, kind, _MEDIA_TYPES[kind], shows)
            self._report.done(storing_seconds(len(data)))
        self._stored[name] = written
