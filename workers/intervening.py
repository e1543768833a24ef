"""Which neurons a job intervenes on, and the texts that it does it on: from findings to a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catalogue.tokeniser import Tokeniser
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.names import Block, Method, Ranking
from schemas.perturbation import PerturbationAnalysis
from schemas.problem import FieldError, ProblemError
from schemas.request import JobRequest
from schemas.result import TextResult
from schemas.sections import NeuronRef, NeuronSet, PerturbationSection
from workers.analyses.neuron_statistics import ranked
from workers.experiments import Tell
from workers.experiments.changes import Moments
from workers.experiments.perturbation import checked_sets, perturb
from workers.mixers.sites import Place, sites_of
from workers.models.loading import LoadedModel
from workers.neuron_document import ranked_values
from workers.neuron_reading import NeuronReading
from workers.numbers import Floats
from workers.shared_pass import trace_requests
from workers.traces import TraceRequest


@dataclass(frozen=True)
class Known:
    """What a job has found out about one model's neurons before it intervenes on any.

    reading: what was measured, if anything; attributions (d,) by layer and block; texts: those
    whose attention was read.
    """

    reading: NeuronReading | None
    attributions: Mapping[Place, Floats]
    knowledge: KnowledgeNeuronAnalysis | None
    texts: Sequence[TextResult]

    @property
    def moments(self) -> dict[Place, Moments]:
        """Of every block that was measured."""
        found = {} if self.reading is None else self.reading.moments
        return {site.place: Moments.of(moments) for site, moments in found.items()}

    def strongest(self, given: NeuronSet) -> list[NeuronRef]:
        """The neurons that a set is to be made of, largest magnitude first; perhaps none."""
        by = given.found_by
        if by == "knowledge_neurons":
            values = dict(self._of_facts())
        else:
            of_blocks = self._ranked(by) if isinstance(by, Ranking) else self._read_by(by)
            values = {
                NeuronRef(layer=layer, block=block, neuron=neuron): float(found[neuron])
                for (layer, block), found in of_blocks
                for neuron in ranked(found, given.count)
            }
        return sorted(values, key=lambda ref: -abs(values[ref]))[: given.count]

    def _of_facts(self) -> Iterator[tuple[NeuronRef, float]]:
        """Every fact's neurons, each with the largest attribution that any fact gives it."""
        found: dict[NeuronRef, float] = {}
        for fact in () if self.knowledge is None else self.knowledge.facts:
            for each in fact.neurons:
                ref = NeuronRef(layer=each.layer, block=each.block, neuron=each.neuron)
                found[ref] = max(found.get(ref, 0.0), each.attribution)
        yield from found.items()

    def _ranked(self, by: Ranking) -> Iterator[tuple[Place, Floats]]:
        if self.reading is None:
            return
        steps = self.reading.steps
        for site, moments in self.reading.moments.items():
            values = ranked_values(moments, steps.get(site), self.attributions.get(site.place))
            if by in values:
                yield site.place, values[by]

    def _read_by(self, by: Method | None) -> Iterator[tuple[Place, Floats]]:
        """Mean magnitude over the texts of the importance, or of the activation without one."""
        found: dict[int, list[Floats]] = {}
        for text in self.texts:
            for layer, attention in text.attention_analysis.items():
                if by in attention.methods:
                    neurons = attention.methods[by].neurons
                    importance = neurons.importance
                    values = neurons.activation if importance is None else importance
                    found.setdefault(layer, []).append(np.abs(np.array(values)))
        for layer, listed in found.items():
            yield (layer, Block.MIXER), np.mean(listed, axis=0)


def perturb_model(
    loaded: LoadedModel,
    request: JobRequest,
    section: PerturbationSection,
    known: Known,
    room: int,
    tell: Tell,
) -> PerturbationAnalysis:
    """Intervene on each set of the section in one model.

    Raises ProblemError: invalid-request, where a set names a neuron that the model lacks or nothing
    was found to make it of; what `perturb` raises.
    """
    given = checked_sets(loaded, section)
    sets = [
        given[index] if index in given else known.strongest(each)
        for index, each in enumerate(section.sets)
    ]
    for index, neurons in enumerate(sets):
        if not neurons:
            raise _nothing_found(loaded.name, index, section.sets[index])
    return perturb(
        loaded,
        section,
        sets,
        trace_requests(request, loaded.tokeniser),
        _controls(section, loaded.tokeniser),
        known.moments,
        sites_of(loaded.model, range(len(loaded.description.layers))),
        request.seed,
        room,
        tell,
    )


def _controls(section: PerturbationSection, tokeniser: Tokeniser) -> list[TraceRequest]:
    texts = enumerate(section.control_texts)
    return [TraceRequest(tokeniser.ids(text), text=index) for index, text in texts]


def _nothing_found(model: str, index: int, given: NeuronSet) -> ProblemError:
    detail = (
        f"`{given.found_by}` found no neuron in `{model}`, so there is nothing to intervene on. "
        "Give `neurons` one by one, ask for other layers, or leave this set out."
    )
    pointer = f"/perturbation/sets/{index}/found_by"
    return ProblemError.of_field(FieldError(pointer=pointer, detail=detail))
