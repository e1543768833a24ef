"""Averages over texts against a loop that draws one by one."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.interval import Interval
from schemas.names import Method
from schemas.result import AveragedKnowledge, KnowledgeMetrics, TextResult
from tests.workers.figures.documents import Shape, document, recall_words
from workers.analyses import intervals
from workers.analyses.averages import MEASURES, averaged_knowledge

Floats = NDArray[np.float64]
ROLLOUT, MEAN = Method.ROLLOUT, Method.ATTENTION_WEIGHTED
[EMPTY] = document(Shape([recall_words(3)], models=["a"], layers=(0,), neurons=4)).results


def read(
    model: str, text: int, layers: Sequence[int], methods: Sequence[Method], values: Floats
) -> TextResult:
    """One text, of whose measures (layers, methods, 10) these are."""
    knowledge = {
        layer: {
            method: KnowledgeMetrics(**dict(zip(MEASURES, measured.tolist(), strict=True)))
            for method, measured in zip(methods, of_layer, strict=True)
        }
        for layer, of_layer in zip(layers, values, strict=True)
    }
    changes = {
        "model": model,
        "text_index": text,
        "attention_knowledge_extraction": knowledge,
    }
    return EMPTY.model_copy(update=changes)


def job(texts: int, model: str = "a", seed: int = 0) -> list[TextResult]:
    values = np.random.default_rng(seed).lognormal(size=(texts, 2, 2, len(MEASURES)))
    return [read(model, i, (1, 5), (MEAN, ROLLOUT), of) for i, of in enumerate(values)]


def loop(values: Sequence[float], seed: int, resamples: int) -> Interval:
    """The same draws, one text after another."""
    source = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = [int(i) for i in source.integers(len(values), size=len(values))]
        means.append(sum(values[i] for i in drawn) / len(values))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=sum(values) / len(values), low=low, high=high)


@pytest.mark.parametrize("at_once", [1 << 21, 33, 1])
def test_against_a_loop(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(intervals, "_COUNTS", at_once)
    results = job(texts=9)
    found = averaged_knowledge(results, seed=7, resamples=200)
    assert [(of.model, of.layer, of.method, of.texts) for of in found] == [
        ("a", layer, method, 9) for layer in (1, 5) for method in (MEAN, ROLLOUT)
    ]
    for averaged in found:
        of_texts = [
            result.attention_knowledge_extraction[averaged.layer][averaged.method]
            for result in results
        ]
        for name in MEASURES:
            expected = loop([getattr(of, name) for of in of_texts], 7, 200)
            interval = getattr(averaged, name)
            # Half of the seventh digit of a number that begins with 1.
            assert interval.model_dump() == pytest.approx(expected.model_dump(), rel=5e-7)
            assert all(value == float(f"{value:.7g}") for value in interval.model_dump().values())


def test_the_order_of_models_and_of_texts_does_not_matter() -> None:
    a, b = job(6, "a", seed=1), job(6, "b", seed=2)
    found = averaged_knowledge([*a, *b], seed=3)
    assert averaged_knowledge(b[::-1] + a, seed=3) == found[4:] + found[:4]
    mixed = [result for pair in zip(b, a, strict=True) for result in pair]
    assert averaged_knowledge(mixed, seed=3) == found[4:] + found[:4]


def test_measures_of_one_job_are_drawn_alike() -> None:
    """A measure that is another one times 2 has its interval times 2, at any layer."""
    values = np.random.default_rng(0).normal(size=(8, 1, 1, 1))
    factors = 2.0 ** np.arange(20).reshape(2, 1, 10)
    results = [read("a", i, (0, 1), (MEAN,), of * factors) for i, of in enumerate(values)]
    found = averaged_knowledge(results, seed=1)
    intervals = [getattr(of, name) for of in found for name in MEASURES]
    for interval, factor in zip(intervals, factors.flatten(), strict=True):
        assert interval.low == pytest.approx(factor * intervals[0].low, rel=2e-6)
        assert interval.high == pytest.approx(factor * intervals[0].high, rel=2e-6)
    assert averaged_knowledge(results, seed=2) != found


def test_layers_that_fewer_texts_have_are_averaged_over_those() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 1, 10))
    results = [
        read("a", i, (0, 2, 4) if i in (1, 3) else (0, 4), (MEAN,), of if i in (1, 3) else of[:2])
        for i, of in enumerate(values)
    ]
    found = averaged_knowledge(results, seed=0)
    assert [(of.layer, of.texts) for of in found] == [(0, 5), (2, 2), (4, 5)]
    expected = values[[1, 3], 1, 0, 0].mean()
    assert found[1].attention_entropy.mean == pytest.approx(expected, rel=1e-6)
    expected = np.append(values[[0, 2, 4], 1, 0, 9], values[[1, 3], 2, 0, 9]).mean()
    assert found[2].mean_distance_characters.mean == pytest.approx(expected, rel=1e-6)


def test_of_nothing_there_is_nothing() -> None:
    assert averaged_knowledge([], seed=0) == []
    unread = read("a", 0, (), (), np.empty((0, 0, 10)))
    assert averaged_knowledge([unread], seed=0) == []


def test_every_measure_of_the_document_is_averaged() -> None:
    intervals = {
        name
        for name, field in AveragedKnowledge.model_fields.items()
        if field.annotation is Interval
    }
    assert intervals == set(MEASURES)
