"""What a result says, in tables that fit 80 columns."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from statistics import fmean

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mambascope.visible import counted, quoted, shortened, visible
from schemas.knowledge_neurons import KnowledgeNeuronAnalysis
from schemas.names import Method, Ranking
from schemas.neurons import NeuronAnalysis
from schemas.perturbation import PerturbationAnalysis
from schemas.result import MethodAttention, ResultDocument, TextResult
from schemas.universality import Universality

MOST_TEXTS = 10
_STRONGEST = 3
_CARRIERS = 2
_TOP_NEURONS = 6
_TEXT_WIDTH = 34


def summary(document: ResultDocument) -> Iterator[RenderableType]:
    """What to print of a result, model by model."""
    devices = {known.model: known for known in document.provenance.models}
    for model, grouped in groupby(document.results, key=lambda result: result.model):
        results = list(grouped)
        run = devices.get(model)
        how = f" ({run.architecture}, {run.dtype} on {run.device})" if run else ""
        subject = _subject(results, _layers(document, model))
        yield Text(visible(model), style="bold") + Text(f"{visible(how)}\n{subject}", style="none")
        yield _targets(results)
        yield from _attention(results)
        yield from _of_model(document, model)
    if document.universality is not None:
        yield _universality(document.universality)


def _of_model(document: ResultDocument, model: str) -> Iterator[RenderableType]:
    for neurons in document.neuron_analysis:
        if neurons.model == model:
            yield from _neurons(neurons)
    for knowledge in document.knowledge_neurons:
        if knowledge.model == model:
            yield _knowledge(knowledge)
            if knowledge.unavailable_reason is not None:
                yield Text(visible(knowledge.unavailable_reason))
    for perturbation in document.perturbation:
        if perturbation.model == model:
            yield _perturbation(document, perturbation)


def _layers(document: ResultDocument, model: str) -> set[int]:
    """The layers whose attention was read or whose neurons were measured."""
    blocks = [b for found in document.neuron_analysis if found.model == model for b in found.blocks]
    return {*document.layers.get(model, []), *(block.layer for block in blocks)}


def _subject(results: Sequence[TextResult], layers: Collection[int]) -> str:
    tokens = sum(len(result.tokens) for result in results)
    named = _spans(layers)
    return f"{counted(len(results), 'text')}, {counted(tokens, 'token')}; {named}"


def _targets(results: Sequence[TextResult]) -> RenderableType:
    table = _table("Targets", "text", "tokens>", "target", "probability>")
    for result in results[:MOST_TEXTS]:
        target = result.target
        token = quoted(target.token.token)
        if target.contrast is not None:
            token += f" minus {quoted(target.contrast.token)}"
        table.add_row(
            shortened(visible(result.text), _TEXT_WIDTH),
            _tokens(result),
            token,
            f"{target.token.probability:.4f}",
        )
    if len(results) > MOST_TEXTS:
        table.caption = f"and {counted(len(results) - MOST_TEXTS, 'more text')}"
    return table


def _tokens(result: TextResult) -> str:
    """How many, and how many of them the model has read as a stand-in."""
    unknown = sum(token.unknown for token in result.tokens)
    return f"{len(result.tokens)}" + (f" ({unknown} unknown)" if unknown else "")


def _attention(results: Sequence[TextResult]) -> Iterator[RenderableType]:
    """The strongest tokens of every layer and method, and why there are none where there are none.

    Of one text its strongest tokens; of several, which token is the strongest of how many of them.
    """
    readings: dict[tuple[int, Method], list[tuple[TextResult, MethodAttention]]] = {}
    for result in results:
        for layer, attention in result.attention_analysis.items():
            for method, reading in attention.methods.items():
                readings.setdefault((layer, method), []).append((result, reading))
    if readings:
        several = len(results) > 1
        heading = "strongest token (in how many texts)" if several else "strongest tokens"
        table = _table("Relevance", "layer>", "method", heading)
        last = None
        for (layer, method), found in sorted(readings.items(), key=lambda item: item[0][0]):
            strongest = _of_several(found) if several else _of_one(*found[0])
            table.add_row("" if layer == last else str(layer), method, strongest)
            last = layer
        yield table
    for reason in dict.fromkeys(result.attention_unavailable_reason for result in results):
        if reason is not None:
            without = "" if readings else "No attention analysis: "
            yield Text(f"{without}{visible(reason)}")


def _order(reading: MethodAttention) -> list[int]:
    """Positions, the largest magnitude of relevance first."""
    return sorted(
        range(len(reading.token_relevance)), key=lambda s: -abs(reading.token_relevance[s])
    )


def _of_one(result: TextResult, reading: MethodAttention) -> str:
    strongest = _order(reading)[:_STRONGEST]
    return ", ".join(f"{quoted(result.tokens[s].text)} at {s}" for s in strongest)


def _of_several(found: Iterable[tuple[TextResult, MethodAttention]]) -> str:
    count = Counter(result.tokens[_order(reading)[0]].text for result, reading in found)
    shown = [f"{quoted(token)} ({number})" for token, number in count.most_common(_STRONGEST)]
    others = len(count) - len(shown)
    return ", ".join(shown) + (f", {counted(others, 'other')}" if others else "")


def _neurons(analysis: NeuronAnalysis) -> Iterator[RenderableType]:
    if analysis.blocks:
        table = _table(
            "Neurons",
            "layer>",
            "block",
            "neurons>",
            "dead>",
            "rare>",
            "Gini>",
            "top by variance",
        )
        for block in analysis.blocks:
            ranked = block.rankings.get(Ranking.VARIANCE, [])[:_TOP_NEURONS]
            table.add_row(
                str(block.layer),
                block.block,
                str(block.num_neurons),
                str(len(block.dead)),
                str(len(block.rare)),
                f"{block.sparsity.gini:.3f}",
                ", ".join(str(neuron.neuron) for neuron in ranked),
            )
        yield table
    if analysis.unavailable_reason is not None:
        yield Text(visible(analysis.unavailable_reason))


def _knowledge(analysis: KnowledgeNeuronAnalysis) -> RenderableType:
    columns = ("answer", "probability>", "gap>", "neurons>", "by layer", "first")
    table = _table("Knowledge neurons", *columns)
    for fact in analysis.facts:
        layers = ", ".join(f"{layer}: {n}" for layer, n in sorted(fact.per_layer.items()) if n)
        first = [f"{n.layer}/{n.block}/{n.neuron}" for n in fact.neurons[:_CARRIERS]]
        table.add_row(
            quoted(fact.answer),
            f"{fmean(prompt.probability for prompt in fact.prompts):.4f}",
            f"{max(prompt.completeness_gap for prompt in fact.prompts):.2g}",
            str(sum(fact.per_layer.values())),
            layers,
            ", ".join(first),
        )
    return table


def _perturbation(document: ResultDocument, analysis: PerturbationAnalysis) -> RenderableType:
    sets = {known.set_index: known for known in analysis.sets}
    table = _table(
        f"Perturbation: changes of the probability, {analysis.baseline_probability:.4f} before",
        "set",
        "neurons>",
        "intervention",
        "change>",
        "random>",
        "more\nextreme>",
    )
    for result in analysis.results:
        known = sets.get(result.set_index)
        table.add_row(
            f"{result.set_index}" + (f" {known.found_by}" if known and known.found_by else ""),
            str(len(known.neurons)) if known else "",
            f"{result.intervention_index} {result.intervention.kind}",
            f"{result.effect.probability:+.4f}",
            f"{result.random.probability.mean:+.4f}",
            f"{result.more_extreme:.0%}",
        )
    return table


def _universality(found: Universality) -> RenderableType:
    table = _table(
        f"Universality: excess correlation above {found.threshold:g}",
        "neurons of",
        "against",
        "tokens>",
        "universal>",
        "by\nchance>",
        "mean\nexcess>",
    )
    for pair in found.pairs:
        table.add_row(
            *map(visible, pair.models),
            str(pair.tokens),
            f"{pair.fraction_universal:.1%}",
            f"{pair.fraction_by_chance:.1%}",
            f"{pair.mean_excess:.3f}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    """A plain table; columns whose name ends in > stand to the right."""
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.removesuffix(">"), justify="right" if right else "left")
    return table


def _spans(layers: Collection[int]) -> str:
    """`layers 0, 6, 12`, and runs of three and more as `0-23`."""
    if not layers:
        return "no layers"
    spans: list[list[int]] = []
    for layer in sorted(layers):
        if spans and layer == spans[-1][-1] + 1:
            spans[-1].append(layer)
        else:
            spans.append([layer])
    named = [f"{s[0]}-{s[-1]}" if len(s) > 2 else ", ".join(map(str, s)) for s in spans]
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(named)}"
