"""From maps to the result document: pooling for drawing, names of what was drawn."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from catalogue.tokeniser import Tokeniser
from schemas import artifact_names
from schemas.artifact_names import Subject
from schemas.catalogue import LayerDescription
from schemas.names import Method
from schemas.result import (
    HEATMAP_BLOCKS,
    Candidate,
    Heatmap,
    KnowledgeMetrics,
    LayerAttention,
    MethodAttention,
    NeuronSummary,
    Pair,
    RankedNeuron,
    TargetResult,
    TextResult,
    Token,
)
from workers.analyses.knowledge_extraction import Knowledge, extract
from workers.analyses.maps import MethodMaps
from workers.analyses.methods import LayerReading
from workers.analyses.neurons import summarise
from workers.numbers import Floats, listed, number, rounded
from workers.traces import TextTrace

STRONGEST_PAIRS = 10
TOP_TOKENS = 5
_NEEDS_EVERY_ROW = (
    "A neuron's importance under this method is a standard deviation over query positions, and "
    "only the target's row was asked for. Set `attention.rows` to `all`."
)


@dataclass(frozen=True)
class LayerPart:
    """What the document says of one layer."""

    layer: int
    attention: LayerAttention
    knowledge: dict[Method, KnowledgeMetrics]


@dataclass(frozen=True)
class TextWriter:
    """Writes the part of the document about one text under one model."""

    subject: Subject
    text: str
    tokens: list[Token]
    layers: list[LayerDescription]
    top_k: int
    figures: bool

    def layer(self, reading: LayerReading) -> LayerPart:
        """One layer's part; the matrices are not needed any more afterwards."""
        methods = {
            method: method_attention(maps, self.top_k, self._sheets(method, reading.layer))
            for method, maps in reading.maps.items()
        }
        knowledge = {method: self._knowledge(maps) for method, maps in reading.maps.items()}
        attention = LayerAttention(
            mixer=reading.family,
            beside=self.layers[reading.layer].beside,
            reconstruction_error=number(reading.reconstruction_error),
            methods=methods,
        )
        return LayerPart(reading.layer, attention, knowledge)

    def result(
        self, target: TargetResult, parts: list[LayerPart], unavailable: str | None
    ) -> TextResult:
        """The whole text; `unavailable` says which analysis is missing and why."""
        parts = sorted(parts, key=lambda part: part.layer)
        return TextResult(
            model=self.subject.model,
            text_index=self.subject.text,
            text=self.text,
            tokens=self.tokens,
            target=target,
            has_attention_analysis=bool(parts),
            attention_unavailable_reason=unavailable,
            attention_analysis={part.layer: part.attention for part in parts},
            attention_knowledge_extraction={part.layer: part.knowledge for part in parts},
            artifacts=self._pages(parts),
        )

    def _knowledge(self, maps: MethodMaps) -> KnowledgeMetrics:
        found = extract(maps.matrix, maps.query_positions, token_places(self.tokens))
        return KnowledgeMetrics(**_rounded_fields(found))

    def _sheets(self, method: Method, layer: int) -> list[str]:
        return [artifact_names.sheet(self.subject, method, layer)] if self.figures else []

    def _pages(self, parts: list[LayerPart]) -> list[str]:
        if not self.figures:
            return []
        methods = list(dict.fromkeys(m for part in parts for m in part.attention.methods))
        strips = [artifact_names.token_strip(self.subject, part.layer) for part in parts]
        return strips + [artifact_names.overview(self.subject, method) for method in methods]


def token_places(tokens: list[Token]) -> list[float]:
    """The middle of each token in its text, in characters.

    One that covers nothing lies where the text has come to.
    """
    places, reached = [], 0.0
    for token in tokens:
        if token.end > token.start:
            reached = (token.start + token.end) / 2
        places.append(reached)
    return places


def target_result(trace: TextTrace, tokeniser: Tokeniser) -> TargetResult:
    """The explained scalar with probabilities over the whole vocabulary, in float64."""
    logits = trace.logits.to("cpu", torch.float64)
    probabilities = torch.softmax(logits, 0)

    def candidate(token: int) -> Candidate:
        return Candidate(
            id=token,
            token=tokeniser.string(token),
            logit=number(float(logits[token])),
            probability=number(float(probabilities[token])),
        )

    target = trace.target
    best = _largest(logits, TOP_TOKENS)
    return TargetResult(
        position=target.position,
        token=candidate(target.token),
        contrast=None if target.contrast is None else candidate(target.contrast),
        value=number(trace.value),
        top=[candidate(int(token)) for token in best],
    )


def _largest(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest, largest first; equals keep the order of their indices."""
    least = torch.topk(values, min(count, len(values))).values[-1]
    some = torch.nonzero(values >= least)[:, 0]
    return some[torch.sort(values[some], descending=True, stable=True).indices[:count]]


def method_attention(maps: MethodMaps, top_k: int, artifacts: list[str]) -> MethodAttention:
    """One layer under one method."""
    signed = maps.signed_relevance
    return MethodAttention(
        parameters=maps.parameters,
        token_relevance=_listed(maps.token_relevance),
        signed_relevance=None if signed is None else _listed(signed),
        bias_relevance=None if maps.bias_relevance is None else number(maps.bias_relevance),
        row_sum_error=number(maps.row_sum_error),
        neurons=neuron_summary(maps.neuron_activation, maps.neuron_importance, top_k),
        strongest_pairs=strongest_pairs(maps.matrix, maps.query_positions),
        heatmap=heatmap(maps.matrix, maps.query_positions),
        artifacts=artifacts,
    )


def neuron_summary(activation: Tensor, importance: Tensor | None, top_k: int) -> NeuronSummary:
    """Every neuron (d,), and the `top_k` of both rankings, or of one without an importance."""
    found = summarise(activation, importance, top_k)
    activations = _listed(activation)
    importances = None if importance is None else _listed(importance)

    def ranked(neurons: list[int]) -> list[RankedNeuron]:
        return [
            RankedNeuron(
                neuron=i,
                activation=activations[i],
                importance=None if importances is None else importances[i],
            )
            for i in neurons
        ]

    return NeuronSummary(
        mean_activation=number(found.mean_activation),
        activation_std=number(found.activation_std),
        neuron_diversity=number(found.neuron_diversity),
        num_neurons=len(activations),
        top_by_activation=ranked(found.by_activation),
        top_by_importance=None if found.by_importance is None else ranked(found.by_importance),
        activation=activations,
        importance=importances,
        importance_unavailable_reason=_NEEDS_EVERY_ROW if importance is None else None,
    )


def strongest_pairs(matrix: Tensor, query_positions: list[int]) -> list[Pair]:
    """The causal pairs of a matrix (rows, l) with the largest |weight|, largest first.

    Equals come in reading order. Only rows whose own largest is among the largest can hold them.
    """
    largest = torch.maximum(matrix.amax(1), -matrix.amin(1))
    rows = torch.sort(largest, descending=True, stable=True).indices[:STRONGEST_PAIRS]
    rows = rows.sort().values
    queries = torch.tensor(query_positions, device=matrix.device)[rows]
    keys = torch.arange(matrix.shape[1], device=matrix.device)
    size = matrix[rows].abs().masked_fill(keys > queries[:, None], -1.0).flatten()
    count = min(STRONGEST_PAIRS, int((queries + 1).sum()))
    found = []
    for place in torch.sort(size, descending=True, stable=True).indices[:count].tolist():
        at, key = divmod(place, matrix.shape[1])
        weight = number(float(matrix[rows[at], key]))
        found.append(Pair(query=int(queries[at]), key=key, weight=weight))
    return found


def heatmap(matrix: Tensor, query_positions: list[int]) -> Heatmap:
    """A matrix (rows, l) for drawing: its causal part, exact or in `HEATMAP_BLOCKS` blocks a side.

    A single row is always exact. Pooling keeps of each square block the entry that is largest in
    magnitude, with its sign.
    """
    length = matrix.shape[1]
    if len(query_positions) == 1 or length <= HEATMAP_BLOCKS:
        values = rounded(_on_host(matrix)).tolist()
        rows = [row[: query + 1] for row, query in zip(values, query_positions, strict=True)]
        return Heatmap(queries=query_positions, stride=1, rows=rows)
    stride = -(-length // HEATMAP_BLOCKS)
    blocks = -(-length // stride)
    spare = blocks * stride - length
    padded = torch.nn.functional.pad(matrix, (0, spare, 0, spare))
    grid = padded.view(blocks, stride, blocks, stride)
    high, low = grid.amax((1, 3)), grid.amin((1, 3))
    pooled = rounded(_on_host(torch.where(high >= -low, high, low))).tolist()
    rows = [row[: index + 1] for index, row in enumerate(pooled)]
    return Heatmap(queries=list(range(0, length, stride)), stride=stride, rows=rows)


def _listed(tensor: Tensor) -> list[float]:
    return listed(_on_host(tensor))


def _on_host(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _rounded_fields(measures: Knowledge) -> dict[str, float]:
    return {name: number(value) for name, value in asdict(measures).items()}
