"""What several models say about the same texts, from the stored numbers of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from schemas.comparison import Comparison, DepthProfile, RelevanceAgreement
from schemas.names import Method
from schemas.result import TextResult, Token
from workers.analyses.neuron_statistics import hoyer
from workers.numbers import Floats, number


def compare(results: Sequence[TextResult], layer_counts: Mapping[str, int]) -> Comparison:
    """The comparison of all models by `results`, one per model and text that was read.

    layer_counts: how many layers each model has. Cost: one sort of a text's characters for each
    model, method and pair.
    """
    models = list(layer_counts)
    by_model = {m: [result for result in results if result.model == m] for m in models}
    methods = list(dict.fromkeys(m for result in results for m in methods_of(result)))
    profiles = [
        _profile(model, method, by_model[model], layer_counts[model])
        for method in methods
        for model in models
        if any(method in methods_of(result) for result in by_model[model])
    ]
    texts = sorted({result.text_index for result in results})
    agreements = [
        agreement
        for text in texts
        for method in methods
        for agreement in _agreements([r for r in results if r.text_index == text], method)
    ]
    return Comparison(models=models, profiles=profiles, agreements=agreements)


def methods_of(result: TextResult) -> list[Method]:
    """The methods that any layer of a text was read by, in their order."""
    layers = result.attention_analysis.values()
    return list(dict.fromkeys(method for layer in layers for method in layer.methods))


def shares(result: TextResult, method: Method) -> list[float]:
    """Each token's share of the relevance of a text, mean over the layers where any has some.

    Magnitudes, so that they add up to 1 (or to 0 where nothing is relevant): comparable between
    models whatever the units of their layers.
    """
    total = np.zeros(len(result.tokens))
    relevant = 0
    for found in result.attention_analysis.values():
        if method not in found.methods:
            continue
        size = np.abs(np.asarray(found.methods[method].token_relevance, dtype=np.float64))
        largest = size.max(initial=0.0)
        if largest:
            relevant += 1
            size /= largest
            total += size / size.sum()
    listed: list[float] = (total / max(relevant, 1)).tolist()
    return listed


def spearman(first: Floats, second: Floats) -> float | None:
    """Correlation of ranks, equals sharing theirs; None where one side has no order."""
    one, two = (_ranks(values) for values in (first, second))
    spread = float(one.std() * two.std()) if len(one) > 1 else 0.0
    if not spread:
        return None
    return float(np.clip(((one - one.mean()) * (two - two.mean())).mean() / spread, -1.0, 1.0))


def overlap(first: Floats, second: Floats) -> float | None:
    """The mass that two distributions, of numbers from 0 on, have in common; None of nothing."""
    if not first.sum() or not second.sum():
        return None
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def per_character(relevance: Sequence[float], tokens: Sequence[Token], length: int) -> Floats:
    """(length,): each character's share of its tokens' relevance, NaN where no token covers it.

    A token's relevance is spread evenly over its characters, so that it does not matter how a model
    cuts a word; tokens that share a character add up.
    """
    starts = np.array([token.start for token in tokens])
    ends = np.array([token.end for token in tokens])
    sizes = ends - starts
    held = sizes > 0
    share = np.asarray(relevance, dtype=np.float64)[held] / sizes[held]
    places = np.repeat(starts[held], sizes[held])
    first = np.repeat(np.cumsum(sizes[held]) - sizes[held], sizes[held])
    places = places + np.arange(len(places)) - first
    total = np.bincount(places, np.repeat(share, sizes[held]), minlength=length)
    covered = np.bincount(places, minlength=length) > 0
    return np.where(covered, total, np.nan)


def _profile(model: str, method: Method, results: Sequence[TextResult], count: int) -> DepthProfile:
    layers = sorted(results[0].attention_analysis)
    mixers = [results[0].attention_analysis[layer].mixer for layer in layers]
    knowledge = [
        [result.attention_knowledge_extraction[layer][method] for result in results]
        for layer in layers
    ]
    sparsity = [
        [
            hoyer(result.attention_analysis[layer].methods[method].neurons.activation)
            for result in results
        ]
        for layer in layers
    ]
    return DepthProfile(
        model=model,
        method=method,
        layers=layers,
        relative_depth=[number(layer / max(count - 1, 1)) for layer in layers],
        mixers=mixers,
        attention_entropy_normalised=[
            _mean(k.attention_entropy_normalised for k in of_layer) for of_layer in knowledge
        ],
        mean_distance_characters=[
            _mean(k.mean_distance_characters for k in of_layer) for of_layer in knowledge
        ],
        first_token_mass=[_mean(k.first_token_mass for k in of_layer) for of_layer in knowledge],
        neuron_sparsity=[_mean(of_layer) for of_layer in sparsity],
    )


def _agreements(results: Sequence[TextResult], method: Method) -> Iterator[RelevanceAgreement]:
    """Every pair of models on one text."""
    read = [result for result in results if method in methods_of(result)]
    spread = {
        result.model: per_character(shares(result, method), result.tokens, len(result.text))
        for result in read
    }
    for one, two in combinations(read, 2):
        first, second = spread[one.model], spread[two.model]
        both = ~(np.isnan(first) | np.isnan(second))
        found, shared = spearman(first[both], second[both]), overlap(first[both], second[both])
        yield RelevanceAgreement(
            text_index=one.text_index,
            method=method,
            models=(one.model, two.model),
            targets=(one.target.token.token, two.target.token.token),
            characters=int(both.sum()),
            spearman=None if found is None else number(found),
            overlap=None if shared is None else number(shared),
        )


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    ranks: Floats = (ends - (count - 1) / 2)[place]
    return ranks


def _mean(values: Iterable[float]) -> float:
    return number(fmean(values))
