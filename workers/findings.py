"""What a job has found so far, and the result file that it becomes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas.comparison import Comparison
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.neurons import NeuronAnalysis
from schemas.perturbation import PerturbationAnalysis
from schemas.result import KnowledgeAverages, Provenance, ResultDocument, TextResult
from schemas.universality import Universality
from workers.kernels import pulse

# How the list of texts begins in a document that has none; quotes inside strings are escaped, and
# nothing before the list has a field of this name.
_NO_TEXTS = b'"results":[]'


@dataclass
class Findings:
    """One job's findings; figures are the names that the document gives them, in its order.

    A text of which only the target is known is kept as the bytes that it becomes in the file, a
    tenth of what its objects take, so that a job of thousands of short texts stays small.
    """

    job_id: str
    layers: dict[str, list[int]] = field(default_factory=dict)
    averages: list[KnowledgeAverages] = field(default_factory=list)
    neurons: list[NeuronAnalysis] = field(default_factory=list)
    knowledge: list[KnowledgeNeuronAnalysis] = field(default_factory=list)
    perturbation: list[PerturbationAnalysis] = field(default_factory=list)
    comparison: Comparison | None = None
    universality: Universality | None = None
    _texts: dict[tuple[int, int], TextResult | bytes] = field(default_factory=dict)

    def add(self, model: int, text: int, result: TextResult) -> None:
        """Keep one text's result; indices as in the request."""
        alone = not result.has_attention_analysis and not result.artifacts
        self._texts[model, text] = result.model_dump_json().encode() if alone else result

    @property
    def read(self) -> list[TextResult]:
        """The texts whose attention was read, by model and text."""
        found = (self._texts[at] for at in sorted(self._texts))
        return [result for result in found if isinstance(result, TextResult)]

    @property
    def figures(self) -> list[str]:
        """Every figure that the findings name."""
        return list(self._figures())

    def _figures(self) -> Iterator[str]:
        for result in self.read:
            for layer in result.attention_analysis.values():
                for method in layer.methods.values():
                    yield from method.artifacts
            yield from result.artifacts
        for averages in self.averages:
            yield from averages.artifacts
        for analysis in self.neurons:
            for block in analysis.blocks:
                yield from block.artifacts
        sections: Sequence[NeuronAnalysis | KnowledgeNeuronAnalysis | PerturbationAnalysis] = [
            *self.neurons,
            *self.knowledge,
            *self.perturbation,
        ]
        for section in sections:
            yield from section.artifacts
        for whole in (self.comparison, self.universality):
            if whole is not None:
                yield from whole.artifacts

    @staticmethod
    def _rendered(text: TextResult | bytes) -> bytes:
        pulse.beat()
        return text if isinstance(text, bytes) else text.model_dump_json().encode()

    def render(self, provenance: Provenance) -> bytes:
        """The result document as JSON."""
        document = ResultDocument(
            job_id=self.job_id,
            layers=self.layers,
            provenance=provenance,
            results=[],
            attention_knowledge_averages=self.averages,
            neuron_analysis=self.neurons,
            knowledge_neurons=self.knowledge,
            perturbation=self.perturbation,
            comparison=self.comparison,
            universality=self.universality,
        )
        before, empty, after = document.model_dump_json().encode().partition(_NO_TEXTS)
        listed = b",".join(self._rendered(self._texts[at]) for at in sorted(self._texts))
        return b"".join([before, empty[:-1], listed, empty[-1:], after])
