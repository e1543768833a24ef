"""Stored results that look like real ones, without a model, and their figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas import artifact_names
from schemas.names import Method, Mixer
from schemas.result import (
    Candidate,
    Heatmap,
    KnowledgeMetrics,
    LayerAttention,
    MethodAttention,
    ModelProvenance,
    NeuronSummary,
    Pair,
    Parameters,
    Provenance,
    RankedNeuron,
    ResultDocument,
    TargetResult,
    TextResult,
    Token,
)
from workers.figures.drawing import page_about
from workers.figures.parts import TextPart
from workers.figures.plan import Drawing, figures

Floats = npt.NDArray[np.float64]
NOUNS = ["apple", "river", "stone", "cloud", "lamp", "horse", "bread", "chair", "paper", "glass"]
DIGITS = "0123456789"
MOST_ROWS = 128
PROSE = """\
The committee , which had been meeting in the old town hall since early spring , decided after a
long and sometimes heated debate that the bridge over the river should be rebuilt in stone rather
than in steel , although the engineers un animous ly warned of the cost ."""


@dataclass(frozen=True)
class Shape:
    """What to make. `texts` are lists of token strings; `spread` is decades of magnitude."""

    texts: Sequence[Sequence[str]]
    models: Sequence[str] = ("pocket/recall-mamba",)
    layers: Sequence[int] = (0, 1)
    methods: Sequence[Method] = tuple(Method)
    neurons: int = 128
    contribution_rows: str = "target"
    constant: float | None = None
    spread: float = 1.0
    contrast: str | None = None
    seed: int = 0
    unavailable: frozenset[str] = field(default_factory=frozenset)


def recall_words(length: int) -> list[str]:
    """`apple 3 river 7 ... river`: as many token strings as asked for."""
    pairs = [w for i in range(length) for w in (NOUNS[i % len(NOUNS)], DIGITS[i * 7 % 10])]
    return [*pairs[: length - 1], NOUNS[1]]


def prose(length: int) -> list[str]:
    """English words with the spaces before them, as byte-level tokenisers cut them."""
    prose = PROSE.split()
    return [prose[0], *(" " + prose[i % len(prose)] for i in range(1, length))]


def document(shape: Shape) -> ResultDocument:
    """A stored result of every model and text of the shape."""
    rng = np.random.default_rng(shape.seed)
    return ResultDocument(
        job_id="01KAQ3V9Q0Z7X3M5B8F2N6T4RC",
        layers={model: list(shape.layers) for model in shape.models},
        provenance=_provenance(shape),
        results=[
            _text(shape, model, index, rng)
            for model in shape.models
            for index in range(len(shape.texts))
        ],
    )


def parts(made: ResultDocument) -> list[TextPart]:
    """The parts of a whole document, in its order."""
    several_models = len({result.model for result in made.results}) > 1
    several_texts = len({result.text_index for result in made.results}) > 1
    return [
        TextPart(
            job_id=made.job_id,
            subject=artifact_names.Subject(
                result.model, result.text_index, several_models, several_texts
            ),
            result=result,
        )
        for result in made.results
    ]


def draw(made: ResultDocument) -> Iterator[Drawing]:
    """Every figure of a document, drawn here, one at a time, as it is asked for."""
    for part in parts(made):
        for figure in figures(part):
            yield Drawing(figure.name, page_about(part, figure.shows).render(), figure.shows)


def figure_names(made: ResultDocument) -> list[str]:
    """Every figure that a document names, in its order."""
    names: list[str] = []
    for result in made.results:
        for analysed in result.attention_analysis.values():
            for attention in analysed.methods.values():
                names += attention.artifacts
        names += result.artifacts
    return names


def _provenance(shape: Shape) -> Provenance:
    return Provenance(
        models=[
            ModelProvenance(
                model=model,
                architecture="mamba",
                revision=None,
                weights_sha256="0" * 64,
                dtype="float32",
                device="cpu",
                kernel="compiled",
            )
            for model in shape.models
        ],
        versions={},
        seed=0,
        seconds={},
        models_loaded=0,
    )


def _text(shape: Shape, model: str, index: int, rng: np.random.Generator) -> TextResult:
    tokens, text = _tokens(shape.texts[index])
    subject = artifact_names.Subject(model, index, len(shape.models) > 1, len(shape.texts) > 1)
    available = model not in shape.unavailable
    layers = {
        layer: LayerAttention(
            mixer=Mixer.S6,
            reconstruction_error=2.34e-7 * (layer + 1),
            methods={
                method: _method(shape, subject, layer, method, len(tokens), rng)
                for method in shape.methods
            },
        )
        for layer in shape.layers
        if available
    }
    names = [artifact_names.token_strip(subject, layer) for layer in layers]
    names += [artifact_names.overview(subject, method) for method in shape.methods if available]
    return TextResult(
        model=model,
        text_index=index,
        text=text,
        tokens=tokens,
        target=TargetResult(
            position=len(tokens) - 1,
            token=Candidate(id=7, token="7", logit=13.2, probability=0.9911),
            contrast=None
            if shape.contrast is None
            else Candidate(id=3, token=shape.contrast, logit=4.1, probability=0.00012),
            value=13.2,
            top=[],
        ),
        has_attention_analysis=available,
        attention_unavailable_reason=None if available else "no layer carries a mixer",
        attention_analysis=layers,
        attention_knowledge_extraction={
            layer: {method: _knowledge(rng) for method in shape.methods} for layer in layers
        },
        artifacts=names,
    )


def _knowledge(rng: np.random.Generator) -> KnowledgeMetrics:
    """Any numbers from 0 to 1."""
    return KnowledgeMetrics(**{name: float(rng.random()) for name in KnowledgeMetrics.model_fields})


def _tokens(strings: Sequence[str]) -> tuple[list[Token], str]:
    spaced = any(string.startswith(" ") for string in strings)
    tokens: list[Token] = []
    text = ""
    for string in strings:
        if text and not spaced:
            text += " "
        tokens.append(
            Token(id=len(tokens), text=string, start=len(text), end=len(text) + len(string))
        )
        text += string
    return tokens, text


def _method(
    shape: Shape,
    subject: artifact_names.Subject,
    layer: int,
    method: Method,
    length: int,
    rng: np.random.Generator,
) -> MethodAttention:
    weights = _weights(shape, method, length, rng)
    contribution = method is Method.CONTRIBUTION
    only_target = contribution and shape.contribution_rows == "target"
    relevance = weights.sum(0) if method is Method.GRADIENT_GUIDED else weights[-1]
    signed = relevance * rng.choice([-1.0, 1.0, 1.0], length) * 4.2 if contribution else None
    return MethodAttention(
        parameters=Parameters(
            clamp="negative-to-zero" if method is Method.ROLLOUT else "none",
            normalisation="rows" if method is Method.ROLLOUT else "none",
            channel_reduction="norm" if contribution else "mean",
            token_reduction="column-sum" if method is Method.GRADIENT_GUIDED else "target-row",
            rows="target" if only_target else "all",
        ),
        token_relevance=relevance.tolist(),
        signed_relevance=None if signed is None else signed.tolist(),
        row_sum_error=3.1e-7,
        neurons=_neurons(shape, method, rng),
        strongest_pairs=[Pair(query=length - 1, key=0, weight=0.5)],
        heatmap=_heatmap(weights, only_target),
        artifacts=[artifact_names.sheet(subject, method, layer)],
    )


def _weights(shape: Shape, method: Method, length: int, rng: np.random.Generator) -> Floats:
    """A causal matrix that decays with distance, has a few far spikes, and the method's sign."""
    if shape.constant is not None:
        return np.tril(np.full((length, length), shape.constant))
    query, key = np.indices((length, length))
    weights = np.exp(-(query - key) / (2.0 + rng.random(length)[None, :] * 12))
    weights *= rng.lognormal(0.0, 0.6 * shape.spread, (length, length))
    for spike in rng.integers(0, length, max(1, length // 12)):
        weights[spike:, spike] += 0.9 * rng.random(length - spike)
    if method in (Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED):
        weights *= np.where(rng.random((length, length)) < 0.2, -0.5, 1.0)
    if method is Method.GRADIENT_GUIDED:
        weights *= 3e-4
    weights = np.tril(weights)
    if method is Method.ROLLOUT:
        weights /= weights.sum(1, keepdims=True)
    return weights * 0.05 if method is Method.ATTENTION_WEIGHTED else weights


def _heatmap(weights: Floats, only_target: bool) -> Heatmap:
    length = len(weights)
    if only_target:
        return Heatmap(queries=[length - 1], stride=1, rows=[weights[-1].tolist()])
    stride = -(-length // MOST_ROWS)
    queries = list(range(0, length, stride))
    rows = []
    for query in queries:
        band = weights[query : query + stride]
        blocks = [band[:, start : start + stride].ravel() for start in queries if start <= query]
        rows.append([float(block[np.abs(block).argmax()]) for block in blocks])
    return Heatmap(queries=queries, stride=stride, rows=rows)


def _neurons(shape: Shape, method: Method, rng: np.random.Generator) -> NeuronSummary:
    count = shape.neurons
    activation = rng.normal(0, 0.1, count) * rng.lognormal(0, shape.spread, count)
    importance = 0.02 * rng.lognormal(0, 0.8 * shape.spread, count)
    if method is Method.CONTRIBUTION:
        importance = np.abs(activation)
    if shape.constant is not None:
        activation[:] = importance[:] = shape.constant
    ranked = [
        [
            RankedNeuron(
                neuron=int(i), activation=float(activation[i]), importance=float(importance[i])
            )
            for i in np.argsort(-np.abs(order), kind="stable")[:10]
        ]
        for order in (activation, importance)
    ]
    return NeuronSummary(
        mean_activation=float(activation.mean()),
        activation_std=float(activation.std()),
        neuron_diversity=float(np.log(count)),
        num_neurons=count,
        top_by_activation=ranked[0],
        top_by_importance=ranked[1],
        activation=activation.tolist(),
        importance=importance.tolist(),
    )
