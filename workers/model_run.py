"""One of a job's models while its turn lasts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from catalogue.selection import Selection
from catalogue.workload import Workload
from schemas.artifact_names import Subject
from schemas.request import JobRequest
from schemas.sections import AttentionSection, NeuronSection
from workers.analyses.integrated_gradients import BACKWARD
from workers.analyses.maps import ReadingPlan
from workers.document import TextWriter
from workers.forecasting.efforts import Layers, layer_seconds, speed_of
from workers.mixers.sites import Place
from workers.models.loading import LoadedModel
from workers.neuron_reading import NeuronReading, Sample
from workers.numbers import Floats
from workers.pacing import Passed


@dataclass
class ModelRun:
    """A model ready to run on the job's texts, and what is found of its neurons on the way.

    lengths: the texts' tokens; room: bytes that a batch may take. sample: filled while the texts
    pass, where neurons of several models are compared; reading: what was measured, once they have;
    attributions (d,): mean over the texts.
    """

    index: int
    loaded: LoadedModel
    work: Workload
    lengths: list[int]
    room: int
    sample: Sample | None = None
    reading: NeuronReading | None = None
    attributions: dict[Place, Floats] = field(default_factory=dict)

    @property
    def selection(self) -> Selection:
        """The layers and methods that are read."""
        return self.work.selection

    def attribute(self, found: Mapping[Place, Tensor]) -> None:
        """Add one text's attributions (d,)."""
        for place, attributed in found.items():
            share = attributed.double().cpu().numpy() / len(self.lengths)
            self.attributions[place] = self.attributions.get(place, 0.0) + share

    def text_writer(self, request: JobRequest, text: int) -> TextWriter:
        """What writes a text's part of the document."""
        texts = request.texts
        return TextWriter(
            subject=Subject(self.loaded.name, text, len(request.models) > 1, len(texts) > 1),
            text=texts[text],
            tokens=self.loaded.tokeniser.encode(texts[text]),
            layers=self.loaded.description.layers,
            top_k=(request.neurons or NeuronSection()).top_k,
            figures=request.figures,
        )

    def reading_plan(self, request: JobRequest, position: int, tolerance: float) -> ReadingPlan:
        """How a text's layers are read whose target is at `position`."""
        section = request.attention or AttentionSection()
        return ReadingPlan(
            layers=frozenset(self.selection.layers),
            methods=self.selection.methods,
            position=position,
            tolerance=tolerance,
            rows={method: section.rows_of(method) for method in self.selection.methods},
            rollout_clamp=section.rollout_clamp,
            attributed=frozenset(self.selection.attributed),
        )

    def reading_seconds(self, text: int, layer: int) -> float:
        """Seconds foretold of reading a layer of a text."""
        described = self.work.model.layers[layer]
        return layer_seconds(self.work, described, self.lengths[text]) / speed_of(self.work)

    def passed(self, done: Callable[[float], None]) -> Passed:
        """What tells, in foretold seconds, how far a pass through the model is."""
        effort, on_gpu = Layers.of(self.work.model, speed_of(self.work)), self.work.on_gpu

        def passed(rows: int, tokens: int, back: bool) -> None:
            # On a GPU the way back is walked by a thread of its own, and is short.
            if not (back and on_gpu):
                done(effort.seconds(rows, tokens) * (BACKWARD if back else 1))

        return passed
