"""A result as tidy rows, one measured thing each, for a data frame or a table of any kind."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from schemas.result import MethodAttention, ResultDocument, TextResult

Row = dict[str, Any]
Table = Literal[
    "tokens",
    "targets",
    "layers",
    "pairs",
    "attention_neurons",
    "neurons",
    "rankings",
    "knowledge_neurons",
    "perturbation",
    "profiles",
    "agreements",
    "universality",
]


def rows(document: ResultDocument, what: Table) -> list[Row]:
    """The rows of one table. Raises ValueError for one that there is not."""
    if what not in _TABLES:
        raise ValueError(f"There is no table {what!r}: give one of {', '.join(get_args(Table))}.")
    return list(_TABLES[what](document))


def _tokens(document: ResultDocument) -> Iterator[Row]:
    """One per model, text, layer, method and token."""
    for text, place, read in _readings(document):
        signed = read.signed_relevance
        for position, token in enumerate(text.tokens):
            yield place | {
                "position": position,
                "token": token.text,
                "relevance": read.token_relevance[position],
                "signed_relevance": None if signed is None else signed[position],
                "id": token.id,
                "start": token.start,
                "end": token.end,
            }


def _targets(document: ResultDocument) -> Iterator[Row]:
    """One per model and text."""
    for text in document.results:
        target, contrast = text.target, text.target.contrast
        yield {
            "model": text.model,
            "text": text.text_index,
            "position": target.position,
            "token": target.token.token,
            "logit": target.token.logit,
            "probability": target.token.probability,
            "contrast": None if contrast is None else contrast.token,
            "value": target.value,
            "top": target.top[0].token if target.top else None,
            "has_attention_analysis": text.has_attention_analysis,
        }


def _layers(document: ResultDocument) -> Iterator[Row]:
    """One per model, text, layer and method."""
    for text, place, read in _readings(document):
        layer, method = place["layer"], place["method"]
        analysis = text.attention_analysis[layer]
        metrics = text.attention_knowledge_extraction.get(layer, {}).get(method)
        yield place | {
            "mixer": analysis.mixer.value,
            "reconstruction_error": analysis.reconstruction_error,
            "row_sum_error": read.row_sum_error,
            "mean_activation": read.neurons.mean_activation,
            "activation_std": read.neurons.activation_std,
            "neuron_diversity": read.neurons.neuron_diversity,
            **(metrics.model_dump() if metrics is not None else {}),
        }


def _pairs(document: ResultDocument) -> Iterator[Row]:
    """One per strongest pair of a model, text, layer and method."""
    for text, place, read in _readings(document):
        for pair in read.strongest_pairs:
            yield place | {
                "query": pair.query,
                "key": pair.key,
                "query_token": text.tokens[pair.query].text,
                "key_token": text.tokens[pair.key].text,
                "weight": pair.weight,
            }


def _attention_neurons(document: ResultDocument) -> Iterator[Row]:
    """One per model, text, layer, method and neuron."""
    for _, place, read in _readings(document):
        importance = read.neurons.importance
        for neuron, activation in enumerate(read.neurons.activation):
            yield place | {
                "neuron": neuron,
                "activation": activation,
                "importance": None if importance is None else importance[neuron],
            }


def _neurons(document: ResultDocument) -> Iterator[Row]:
    """One per model, layer, block and neuron, over all texts."""
    for analysis in document.neuron_analysis:
        for block in analysis.blocks:
            columns: dict[str, list[Any]] = block.statistics.model_dump()
            if block.attribution is not None:
                columns["attribution"] = block.attribution
            dead, rare = set(block.dead), set(block.rare)
            for neuron in range(block.num_neurons):
                yield {
                    "model": analysis.model,
                    "layer": block.layer,
                    "block": block.block.value,
                    "neuron": neuron,
                    **{name: values[neuron] for name, values in columns.items()},
                    "dead": neuron in dead,
                    "rare": neuron in rare,
                }


def _rankings(document: ResultDocument) -> Iterator[Row]:
    """One per model, layer, block, ranking and rank."""
    for analysis in document.neuron_analysis:
        for block in analysis.blocks:
            for ranking, ranked in block.rankings.items():
                for rank, entry in enumerate(ranked, start=1):
                    yield {
                        "model": analysis.model,
                        "layer": block.layer,
                        "block": block.block.value,
                        "ranking": ranking.value,
                        "rank": rank,
                        "neuron": entry.neuron,
                        "value": entry.value,
                    }


def _knowledge_neurons(document: ResultDocument) -> Iterator[Row]:
    """One per model, fact and neuron."""
    for analysis in document.knowledge_neurons:
        for fact in analysis.facts:
            for neuron in fact.neurons:
                place = {"model": analysis.model, "fact": fact.fact, "answer": fact.answer}
                yield place | neuron.model_dump(mode="json")


def _perturbation(document: ResultDocument) -> Iterator[Row]:
    """One per model, set and intervention."""
    for analysis in document.perturbation:
        found = {entry.set_index: entry for entry in analysis.sets}
        for result in analysis.results:
            source = found[result.set_index].found_by
            random, control = result.random, result.control
            yield {
                "model": analysis.model,
                "set": result.set_index,
                "found_by": None if source is None else str(source),
                "neurons": len(found[result.set_index].neurons),
                "intervention": result.intervention.kind.value,
                **result.effect.model_dump(),
                **{f"random_{name}": value.mean for name, value in random if value is not None},
                **{f"control_{name}": value for name, value in control or ()},
                "more_extreme": result.more_extreme,
            }


def _profiles(document: ResultDocument) -> Iterator[Row]:
    """One per model, method and layer, of several models."""
    for profile in document.comparison.profiles if document.comparison else ():
        columns = profile.model_dump(mode="json", exclude={"model", "method", "layers"})
        for index, layer in enumerate(profile.layers):
            yield {
                "model": profile.model,
                "method": profile.method.value,
                "layer": layer,
                **{name: values[index] for name, values in columns.items()},
            }


def _agreements(document: ResultDocument) -> Iterator[Row]:
    """One per text, method and pair of models."""
    for agreement in document.comparison.agreements if document.comparison else ():
        yield {
            "text": agreement.text_index,
            "method": agreement.method.value,
            "model": agreement.models[0],
            "other_model": agreement.models[1],
            "target": agreement.targets[0],
            "other_target": agreement.targets[1],
            "characters": agreement.characters,
            "spearman": agreement.spearman,
            "overlap": agreement.overlap,
        }


def _universality(document: ResultDocument) -> Iterator[Row]:
    """One per pair of models, layer, block and neuron."""
    for pair in document.universality.pairs if document.universality else ():
        for block in pair.blocks:
            for neuron in range(block.num_neurons):
                match = block.best_match[neuron]
                yield {
                    "model": pair.models[0],
                    "other_model": pair.models[1],
                    "layer": block.layer,
                    "block": block.block.value,
                    "neuron": neuron,
                    "max_correlation": block.max_correlation[neuron],
                    "baseline": block.baseline[neuron],
                    "match_layer": None if match is None else match.layer,
                    "match_block": None if match is None else match.block.value,
                    "match_neuron": None if match is None else match.neuron,
                }


def _readings(document: ResultDocument) -> Iterator[tuple[TextResult, Row, MethodAttention]]:
    """Every reading of a text by a method at a layer, and the columns that name it."""
    for text in document.results:
        for layer, analysis in text.attention_analysis.items():
            for method, read in analysis.methods.items():
                place = {
                    "model": text.model,
                    "text": text.text_index,
                    "layer": layer,
                    "method": method.value,
                }
                yield text, place, read


_TABLES: dict[str, Callable[[ResultDocument], Iterator[Row]]] = {
    "tokens": _tokens,
    "targets": _targets,
    "layers": _layers,
    "pairs": _pairs,
    "attention_neurons": _attention_neurons,
    "neurons": _neurons,
    "rankings": _rankings,
    "knowledge_neurons": _knowledge_neurons,
    "perturbation": _perturbation,
    "profiles": _profiles,
    "agreements": _agreements,
    "universality": _universality,
}
