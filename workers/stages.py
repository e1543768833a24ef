"""The stages of a job, each of them one method; `workers.run` calls them in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from catalogue.admission import admit, require_lengths
from catalogue.budget import require_room
from catalogue.facts import require_fitting_facts
from catalogue.locate import UnknownModel
from catalogue.memory import needs, result_bytes, tensor_bytes
from catalogue.universality import Compared, sample_bytes
from catalogue.workload import workload
from jobs import Attempt
from schemas.comparison import Comparison
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.names import Block
from schemas.neurons import NeuronAnalysis
from schemas.perturbation import PerturbationAnalysis
from schemas.problem import FieldError, ProblemError
from schemas.result import KnowledgeAverages, ModelProvenance, Provenance
from schemas.sections import NeuronSection
from schemas.universality import Universality
from workers.analyses.averages import averaged_knowledge
from workers.analyses.comparison import compare
from workers.analyses.methods import read_layers
from workers.artifacts import Artifacts
from workers.compared import comparison_part
from workers.document import target_result
from workers.experiments import Tell
from workers.experiments.knowledge_neurons import find_knowledge_neurons
from workers.figures.parts import Part, TextPart
from workers.figures.picking import (
    averages_part,
    knowledge_part,
    neuron_parts,
    perturbation_part,
    universality_part,
)
from workers.figures.studio import Drawings
from workers.findings import Findings
from workers.forecasting.efforts import TEXT, speed_of
from workers.forecasting.forecast import Phase
from workers.intervening import Known, perturb_model
from workers.kernels import pulse
from workers.matching import Matching
from workers.model_run import ModelRun
from workers.neuron_document import Texts, neuron_analysis
from workers.pacing import paced
from workers.progress import Report
from workers.provenance import versions
from workers.runtime import Runtime
from workers.shared_pass import SharedPass
from workers.tensors import TensorFile
from workers.traces import TextTrace, traced

# What is found of a whole model, or of all of them, with figures of its own.
_Section = TypeVar(
    "_Section", Comparison, KnowledgeNeuronAnalysis, PerturbationAnalysis, Universality
)


class Stages:
    """One attempt's stages, in the order in which they must be called, and what they have found."""

    def __init__(
        self,
        runtime: Runtime,
        attempt: Attempt,
        shared: SharedPass,
        drawings: Drawings,
        report: Report,
    ) -> None:
        self._runtime = runtime
        self._shared = shared
        self._attempt = attempt
        self._request = attempt.request
        self._report = report
        writer = runtime.jobs.artifacts.writer(attempt)
        self._artifacts = Artifacts(writer, drawings, self._report)
        self._tensors = TensorFile(runtime.settings.max_tensor_bytes)
        self._findings = Findings(attempt.job_id)
        self._layer_counts: dict[str, int] = {}
        self._matching: Matching | None = None
        if attempt.request.universality is not None:
            settings = runtime.settings
            self._matching = Matching(attempt.request, attempt.request.universality, settings)
        self._models: list[ModelProvenance] = []
        self._models_loaded = 0
        self._result_bytes = 0

    def check(self) -> None:
        """Judge the request as the service did, by what lies on this disk now."""
        with self._report.doing(Phase.LOADING, self._request.models[0], "checking the request"):
            admit(self._request, self._runtime.settings)
            self._report.foretell(self._runtime)

    def load(self, index: int) -> ModelRun:
        """Get a model into memory, and the texts into its tokens."""
        name = self._request.models[index]
        with self._report.doing(Phase.LOADING, name, name):
            try:
                loaded, fresh = self._runtime.models.get(name)
            except UnknownModel as error:
                # It was there when the request was judged.
                gone = FieldError(pointer=f"/models/{index}", detail=str(error))
                raise ProblemError.of_field(gone) from error
            if fresh:
                # Its files may have been fetched only now.
                alone = self._request.model_copy(update={"models": [name], "universality": None})
                admit(alone, self._runtime.settings)
                self._report.foretell(self._runtime)
            lengths = [loaded.tokeniser.count(text) for text in self._request.texts]
            settings = self._runtime.settings
            require_lengths(self._request, settings, index, loaded.description, lengths)
            work = workload(self._request, loaded.description, lengths, self._runtime.settings)
            self._tensors.expect(tensor_bytes(work))
            compared = Compared(loaded.description, lengths)
            self._result_bytes += result_bytes(work) + sample_bytes(self._request, compared)
            limit = self._runtime.settings.job_memory_bytes
            room = require_room(index, work, self._result_bytes, limit)
            self._runtime.models.make_room(name, needs(work, self._result_bytes).total)
            model = ModelRun(index, loaded, work, lengths, room)
        self._models_loaded += fresh
        self._findings.layers[name] = model.selection.layers
        self._layer_counts[name] = len(loaded.description.layers)
        self._models.append(loaded.provenance)
        self._report.over(Phase.LOADING, name)
        return model

    def traces(self, model: ModelRun) -> Iterator[tuple[int, TextTrace]]:
        """Run the model on every text, a batch at a time, shortest texts first."""
        if self._matching is not None:
            model.sample = self._matching.sample(model.index, model.loaded)
        outcomes = self._shared.outcomes(
            self._attempt, model.loaded, model.selection, model.room, model.sample
        )
        name, passed = model.loaded.name, model.passed(self._report.done)
        while True:
            with (
                self._report.doing(Phase.TRACING, name, f"running {name}"),
                paced(model.loaded.model, passed),
            ):
                text, outcome = next(outcomes, (None, None))
            if text is None or outcome is None:
                break
            yield text, traced(outcome)
        self._report.over(Phase.TRACING, name)
        self._report.over(Phase.READING, name)

    def analyse(self, model: ModelRun, text: int, trace: TextTrace) -> None:
        """Read one text's layers, write its part of the document and have its figures drawn."""
        name, request, parts = model.loaded.name, self._request, []
        tolerance = self._runtime.settings.tolerance_of(name)
        writer = model.text_writer(request, text)
        plan = model.reading_plan(request, trace.target.position, tolerance)
        told = f"{name}: text {text + 1} of {len(request.texts)}"

        def on_read(layer: int) -> None:
            self._report.analysed(layers=1)
            self._report.done(model.reading_seconds(text, layer), f"{told}, layer {layer}")

        with self._report.doing(Phase.READING, name, told):
            model.attribute({site.place: found for site, found in trace.attributed.items()})
            for reading in read_layers(trace.mixers, plan, on_read):
                if reading.maps:
                    parts.append(writer.layer(reading))
                if reading.attributed is not None:
                    model.attribute({(reading.layer, Block.MIXER): reading.attributed})
                if request.tensors:
                    self._tensors.add(model.index, text, reading.layer, reading.maps)
            target = target_result(trace, model.loaded.tokeniser)
            result = writer.result(target, parts, model.selection.unavailable)
            self._findings.add(model.index, text, result)
            self._report.analysed(texts=1)
            self._report.done(TEXT / speed_of(model.work), told)
        if request.figures and result.has_attention_analysis:
            part = TextPart(job_id=self._attempt.job_id, subject=writer.subject, result=result)
            self._artifacts.draw(part)
            self._artifacts.store_drawn()

    def measure_neurons(self, model: ModelRun) -> None:
        """Write what was read of a model's neurons while its texts passed."""
        model.reading = reading = self._shared.reading(self._attempt, model.loaded)
        section = self._request.neurons
        if self._matching is not None and model.sample is not None:
            self._matching.take(model.loaded.name, model.sample)
        if reading is None or section is None:
            return
        name = model.loaded.name
        with self._report.doing(Phase.NEURONS, name, f"{name}: neurons"):
            found = neuron_analysis(
                name,
                reading,
                model.attributions,
                section,
                Texts(self._request.texts, model.loaded.tokeniser, section.ngram),
                model.loaded.description.layers,
                model.selection.neurons,
            )
        self._report.over(Phase.NEURONS, name)
        self._findings.neurons.append(self._drawn_neurons(section, found))

    def _drawn_neurons(self, section: NeuronSection, found: NeuronAnalysis) -> NeuronAnalysis:
        """The same, with the names of its figures, which are being drawn."""
        if not self._request.figures:
            return found
        parts = neuron_parts(self._attempt.job_id, section, self._several_models, found)
        names = [self._artifacts.draw(part) for part in parts]
        blocks = [
            block.model_copy(update={"artifacts": of_block})
            for block, of_block in zip(found.blocks, names, strict=False)
        ]
        artifacts = [name for of_all in names[len(blocks) :] for name in of_all]
        return found.model_copy(update={"blocks": blocks, "artifacts": artifacts})

    def compare(self) -> None:
        """Put the models side by side, if there are several, and have that drawn."""
        if not self._several_models:
            return
        results = self._findings.read
        with self._report.doing(Phase.MATCHING, detail="comparing the models"):
            found = compare(results, self._layer_counts)
        if found.profiles:
            part = partial(comparison_part, self._attempt.job_id, results=results)
            found = self._drawn(found, part)
        self._findings.comparison = found

    def find_knowledge(self, model: ModelRun) -> None:
        """Find the neurons of each fact in a model, where facts are given."""
        section = self._request.knowledge_neurons
        if section is None:
            return
        layers, loaded = model.selection.neurons, model.loaded
        require_fitting_facts(section, loaded.tokeniser, loaded.description, layers, model.room)
        with self._intervening(Phase.FACTS, model) as tell:
            found = find_knowledge_neurons(loaded, section, layers, model.room, tell)
        part = partial(knowledge_part, self._attempt.job_id, section, self._several_models)
        self._findings.knowledge.append(self._drawn(found, part))

    def perturb(self, model: ModelRun) -> None:
        """Change a model's neurons and see what changes, where that is asked for."""
        section = self._request.perturbation
        if section is None:
            return
        name, knowledge = model.loaded.name, self._findings.knowledge
        known = Known(
            model.reading,
            model.attributions,
            knowledge[-1] if self._request.knowledge_neurons is not None else None,
            [result for result in self._findings.read if result.model == name],
        )
        with self._intervening(Phase.INTERVENTIONS, model) as tell:
            found = perturb_model(model.loaded, self._request, section, known, model.room, tell)
        texts, several = len(self._request.texts), self._several_models
        part = partial(perturbation_part, self._attempt.job_id, section, texts, several)
        self._findings.perturbation.append(self._drawn(found, part))

    @contextmanager
    def _intervening(self, phase: Phase, model: ModelRun) -> Iterator[Tell]:
        """What tells how far an experiment is; every layer of its passes is a sign of life."""
        name = model.loaded.name
        with (
            self._report.doing(phase, name, f"{name}: {phase}"),
            paced(model.loaded.model, lambda rows, tokens, back: pulse.beat()),
        ):
            yield self._report.reach
        self._report.over(phase, name)

    def average(self) -> None:
        """Average over the texts what was read of their attention, and have that drawn."""
        with self._report.doing(Phase.MATCHING, detail="averaging over the texts"):
            found = averaged_knowledge(self._findings.read, self._request.seed)
        for model in self._request.models:
            of_model = [averaged for averaged in found if averaged.model == model]
            if not of_model:
                continue
            names = []
            if self._request.figures:
                part = averages_part(self._attempt.job_id, model, self._several_models, of_model)
                names = [] if part is None else self._artifacts.draw(part)
            averages = KnowledgeAverages(model=model, averages=of_model, artifacts=names)
            self._findings.averages.append(averages)

    def match_neurons(self) -> None:
        """Compare the models' neurons, where that is asked for, and have that drawn."""
        if self._matching is None:
            return
        with self._report.doing(Phase.MATCHING, detail="comparing the models' neurons"):
            found = self._matching.compare()
        part = partial(universality_part, self._attempt.job_id)
        self._findings.universality = self._drawn(found, part)

    def collect_figures(self) -> None:
        """Wait for the figures that are still being drawn; the findings name all of them."""
        self._artifacts.collect(self._findings.figures)

    def write_tensors(self) -> None:
        """Store the tensors, when asked for and there are any."""
        if self._tensors.held:
            with self._report.doing(Phase.STORING, detail="writing the tensors"):
                self._artifacts.store_tensors(self._tensors.render())

    def succeed(self) -> None:
        """Store the document with the seconds spent so far, and end the job."""
        with self._report.doing(Phase.STORING, detail="writing the result"):
            self._artifacts.store_result(self._findings.render(self._provenance()))
        self._runtime.jobs.store.succeed(self._attempt, self._artifacts.listed)
        self._report.learn(self._runtime)

    def _drawn(self, found: _Section, part: Callable[[_Section], Part]) -> _Section:
        """A section with the names of its figures, which are being drawn, where they are wanted."""
        if not self._request.figures:
            return found
        return found.model_copy(update={"artifacts": self._artifacts.draw(part(found))})

    @property
    def _several_models(self) -> bool:
        return len(self._request.models) > 1

    def _provenance(self) -> Provenance:
        return Provenance(
            models=self._models,
            versions=versions(),
            seed=self._request.seed,
            seconds={stage: round(spent, 4) for stage, spent in self._report.seconds.items()},
            models_loaded=self._models_loaded,
        )
