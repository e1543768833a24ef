"""One of a job's models while its turn lasts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from catalogue.selection import Selection
from catalogue.workload import Workload
from workers.mixers.sites import Place
from workers.models.loading import LoadedModel
from workers.neuron_reading import NeuronReading, Sample
from workers.numbers import Floats


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
