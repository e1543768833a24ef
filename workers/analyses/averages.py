"""`attention_knowledge_averages`: each measure's mean over the texts, and how sure it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.names import Method
from schemas.result import AveragedKnowledge, KnowledgeMetrics, TextResult
from workers.analyses.intervals import bootstrapped, rounded_interval
from workers.numbers import Floats

MEASURES = tuple(KnowledgeMetrics.model_fields)


def averaged_knowledge(
    results: Sequence[TextResult], seed: int, resamples: int = 2000
) -> list[AveragedKnowledge]:
    """Of each model, layer and method the mean over its texts of every measure, with an interval.

    The interval is the percentile bootstrap's: the texts are drawn anew with replacement,
    `resamples` times, and of the means of these draws it spans the middle 95 %. All measures of
    all layers, methods and models with as many texts are drawn alike, so the order of models
    does not matter. Source: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979).

    Cost, of a model with K measures in all: a product of resamples x texts x K, in float64; memory
    O(resamples K) and a bounded part of the draws.
    """
    models = dict.fromkeys(result.model for result in results)
    by_model = [[result for result in results if result.model == model] for model in models]
    return [found for of_model in by_model for found in _averages(of_model, seed, resamples)]


@dataclass(frozen=True)
class _Group:
    """The texts of a model that one method read at one layer."""

    layer: int
    method: Method
    metrics: list[KnowledgeMetrics]

    @property
    def values(self) -> Floats:
        """(texts, measures)."""
        return np.array([[getattr(of, name) for name in MEASURES] for of in self.metrics])


def _averages(
    results: Sequence[TextResult], seed: int, resamples: int
) -> Iterator[AveragedKnowledge]:
    """One model's, by layer and then method."""
    groups = _groups(results)
    found: dict[int, Iterator[Floats]] = {}
    # Layers and methods that read as many texts share one product.
    for texts in {len(group.metrics) for group in groups}:
        alike = [group.values for group in groups if len(group.metrics) == texts]
        bounds = bootstrapped(np.concatenate(alike, axis=1), seed, resamples)
        found[texts] = iter(np.split(bounds, len(alike), axis=1))
    for group in groups:
        texts = len(group.metrics)
        of_group = zip(MEASURES, next(found[texts]).T.tolist(), strict=True)
        intervals = {name: rounded_interval(*numbers) for name, numbers in of_group}
        yield AveragedKnowledge(
            model=results[0].model,
            layer=group.layer,
            method=group.method,
            texts=texts,
            **intervals,
        )


def _groups(results: Sequence[TextResult]) -> list[_Group]:
    """By layer, then method in the order of the results; texts in theirs."""
    found: dict[tuple[int, Method], list[KnowledgeMetrics]] = {}
    for result in sorted(results, key=lambda result: result.text_index):
        for layer, methods in result.attention_knowledge_extraction.items():
            for method, metrics in methods.items():
                found.setdefault((layer, method), []).append(metrics)
    return [
        _Group(layer, method, metrics)
        for (layer, method), metrics in sorted(found.items(), key=lambda item: item[0][0])
    ]
