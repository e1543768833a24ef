"""What is printed of a result."""

import pytest
from rich.cells import cell_len
from rich.console import Console

from mambascope.summary import summary
from schemas.interval import Interval
from schemas.knowledge_neurons import (
    FactNeurons,
    KnowledgeNeuron,
    KnowledgeNeuronAnalysis,
    PromptKnowledge,
)
from schemas.names import Block, Intervening, Method, Mixer, Ranking
from schemas.neurons import (
    ActivationStatistics,
    BlockNeurons,
    NeuronAnalysis,
    RankedValue,
    Sparsity,
)
from schemas.perturbation import Effect, PerturbationAnalysis, Perturbed, PerturbedSet, RandomEffect
from schemas.result import (
    Candidate,
    Heatmap,
    LayerAttention,
    MethodAttention,
    ModelProvenance,
    NeuronSummary,
    Parameters,
    Provenance,
    ResultDocument,
    TargetResult,
    TextResult,
    Token,
)
from schemas.sections import Intervention, NeuronRef
from schemas.universality import Universality, UniversalPair

MODEL = "state-spaces/mamba-130m-hf"


def reading(*relevance: float) -> MethodAttention:
    return MethodAttention(
        parameters=Parameters(
            clamp="none",
            normalisation="none",
            channel_reduction="mean",
            token_reduction="target-row",
        ),
        token_relevance=list(relevance),
        row_sum_error=0.0,
        neurons=NeuronSummary(
            mean_activation=0.0,
            activation_std=0.0,
            neuron_diversity=0.0,
            num_neurons=0,
            top_by_activation=[],
            top_by_importance=None,
            activation=[],
            importance=None,
        ),
        strongest_pairs=[],
        heatmap=Heatmap(queries=[], stride=1, rows=[]),
    )


def text(
    index: int,
    words: str,
    layers: dict[int, dict[Method, MethodAttention]],
    reason: str | None = None,
) -> TextResult:
    token = Candidate(id=1, token=" Paris", logit=2.0, probability=0.87654)
    return TextResult(
        model=MODEL,
        text_index=index,
        text=words,
        tokens=[
            Token(id=0, text=word, start=0, end=1, unknown=word == "[bold]")
            for word in words.split(" ")
        ],
        target=TargetResult(position=0, token=token, contrast=None, value=2.0, top=[token]),
        has_attention_analysis=bool(layers),
        attention_unavailable_reason=reason,
        attention_analysis={
            layer: LayerAttention(mixer=Mixer.S6, reconstruction_error=0.0, methods=methods)
            for layer, methods in layers.items()
        },
    )


def document(*results: TextResult, **parts: object) -> ResultDocument:
    run = ModelProvenance(
        model=MODEL,
        architecture="mamba",
        revision=None,
        weights_sha256="0" * 64,
        dtype="float32",
        device="cpu",
        kernel="numba",
    )
    provenance = Provenance(models=[run], versions={}, seed=0, seconds={}, models_loaded=1)
    return ResultDocument.model_validate(
        {
            "job_id": "1",
            "layers": {MODEL: [0, 1, 2, 3, 6, 12]},
            "provenance": provenance,
            "results": results,
            **parts,
        }
    )


def printed(shown: ResultDocument) -> list[str]:
    """Its lines at 80 columns, without the spaces that columns are filled with."""
    console = Console(width=80, markup=False, emoji=False, color_system=None)
    with console.capture() as captured:
        for part in summary(shown):
            console.print(part)
    lines = captured.get().splitlines()
    assert max(map(cell_len, lines)) <= 80
    return [" ".join(line.split()) for line in lines]


def test_one_text_shows_its_strongest_tokens_by_magnitude() -> None:
    layers = {
        layer: {
            Method.ATTENTION_WEIGHTED: reading(0.1, 0.2, 0.3),
            Method.GRADIENT_GUIDED: reading(0.1, -0.9, 0.3),
        }
        for layer in (2, 0)
    }
    lines = printed(document(text(0, "The [bold] \x1b[2J", layers)))
    assert lines[:2] == [
        f"{MODEL} (mamba, float32 on cpu)",
        "1 text, 3 tokens; layers 0-3, 6, 12",
    ]
    assert r'The [bold] \x1b[2J 3 (1 unknown) " Paris" 0.8765' in lines
    assert r'0 attention_weighted "\x1b[2J" at 2, "[bold]" at 1, "The" at 0' in lines
    assert r'gradient_guided "[bold]" at 1, "\x1b[2J" at 2, "The" at 0' in lines
    rows = [line[0] for line in lines if "attention_weighted" in line]
    assert rows == ["0", "2"], "layers in order"


def test_several_texts_show_which_token_is_the_strongest_in_how_many() -> None:
    layers = [
        {1: {Method.ROLLOUT: reading(0.0, *relevance)}}
        for relevance in [(1.0, 0.5), (1.0, 0.5), (0.5, 1.0)]
    ]
    lines = printed(document(*(text(i, f"a{i} b c", layer) for i, layer in enumerate(layers))))
    assert '1 rollout "b" (2), "c" (1)' in lines


def test_more_than_ten_texts_are_counted() -> None:
    lines = printed(document(*(text(index, f"text{index} b", {}) for index in range(13))))
    assert sum(line.startswith("text") and "Paris" in line for line in lines) == 10
    assert "and 3 more texts" in lines


def test_reason_is_said_where_there_is_no_attention() -> None:
    lines = printed(document(text(0, "a b", {}, "Layer 3 is only an MLP.")))
    assert "No attention analysis: Layer 3 is only an MLP." in lines
    layers = {0: {Method.ROLLOUT: reading(1.0, 2.0)}}
    lines = printed(document(text(0, "a b", layers, "Layer 3 is only an MLP.")))
    assert "Layer 3 is only an MLP." in lines


def block() -> BlockNeurons:
    zeros = [0.0] * 4
    return BlockNeurons(
        layer=6,
        block=Block.MLP,
        mixer=None,
        num_neurons=4,
        statistics=ActivationStatistics(
            mean=zeros,
            std=zeros,
            skewness=[*zeros],
            kurtosis=[*zeros],
            minimum=zeros,
            maximum=zeros,
            mean_magnitude=zeros,
            fraction_active=zeros,
            fraction_positive=zeros,
        ),
        sparsity=Sparsity(
            gini=0.4321, entropy=0.0, entropy_normalised=0.0, hoyer=0.0, hoyer_per_token=0.0
        ),
        dead=[1],
        rare=[0, 2],
        delta=None,
        attribution=None,
        rankings={Ranking.VARIANCE: [RankedValue(neuron=n, value=1.0) for n in (3, 2)]},
        profiles=[],
    )


def test_neurons_are_counted_by_layer_and_block() -> None:
    analysis = NeuronAnalysis(
        model=MODEL,
        texts=1,
        tokens=2,
        position_bins=1,
        chance_information=0.0,
        blocks=[block()],
        unavailable_reason="Layer 0 has experts.",
    )
    lines = printed(document(text(0, "a b", {}), neuron_analysis=[analysis]))
    assert "6 mlp 4 1 2 0.432 3, 2" in lines
    assert "Layer 0 has experts." in lines
    shown = document(text(0, "a b", {}), layers={MODEL: []}, neuron_analysis=[analysis])
    assert "1 text, 2 tokens; layer 6" in printed(shown), "attention was not asked for"


def test_knowledge_neurons_perturbation_and_universality_have_their_lines() -> None:
    fact = FactNeurons(
        fact=0,
        answer=" Paris",
        answer_tokens=[" Paris"],
        prompts=[
            PromptKnowledge(
                prompt=prompt, probability=p, log_probability=-1.0, completeness_gap=gap
            )
            for prompt, p, gap in [("a", 0.25, 0.0), ("b", 0.75, 0.125)]
        ],
        neurons=[
            KnowledgeNeuron(layer=3, block=Block.MLP, neuron=17, attribution=0.5, prompts=1.0)
        ],
        per_layer={3: 1001, 6: 0},
    )
    effect = Effect(logit=0.0, probability=-0.5, divergence=0.0, loss=0.0, perplexity=1.0)
    interval = Interval(mean=-0.125, low=0.0, high=0.0)
    perturbed = Perturbed(
        set_index=0,
        intervention_index=0,
        intervention=Intervention(kind=Intervening.ZERO),
        effect=effect,
        random=RandomEffect(
            logit=interval,
            probability=interval,
            divergence=interval,
            loss=interval,
            perplexity=interval,
        ),
        random_sets=20,
        more_extreme=0.05,
        control=None,
        random_control=None,
    )
    perturbation = PerturbationAnalysis(
        model=MODEL,
        baseline_loss=1.0,
        baseline_probability=0.75,
        control_loss=None,
        control_probability=None,
        sets=[
            PerturbedSet(
                set_index=0,
                found_by="knowledge_neurons",
                neurons=[NeuronRef(layer=0, neuron=1)],
            )
        ],
        results=[perturbed],
    )
    universality = Universality(
        threshold=0.5,
        pairs=[
            UniversalPair(
                models=(MODEL, "gpt2"),
                tokens=4096,
                fraction_universal=0.231,
                fraction_by_chance=0.002,
                mean_excess=0.1234,
                blocks=[],
            )
        ],
    )
    lines = printed(
        document(
            text(0, "a b", {}),
            knowledge_neurons=[
                KnowledgeNeuronAnalysis(
                    model=MODEL, facts=[fact], overlaps=[], unavailable_reason="Experts only."
                )
            ],
            perturbation=[perturbation],
            universality=universality,
        )
    )
    assert '" Paris" 0.5000 0.12 1001 3: 1001 3/mlp/17' in lines
    assert "Experts only." in lines
    assert "Perturbation: changes of the probability, 0.7500 before" in lines
    assert "0 knowledge_neurons 1 0 zero -0.5000 -0.1250 5%" in lines
    assert f"{MODEL} gpt2 4096 23.1% 0.2% 0.123" in lines


@pytest.mark.parametrize("word", ["long" * 40, "\u592a" * 60, "a\nb\tc" * 20])
def test_any_text_fits(word: str) -> None:
    layers = {0: {Method.ROLLOUT: reading(1.0)}}
    rows = [line for line in printed(document(text(0, word, layers))) if "0.8765" in line]
    assert len(rows) == 1, "a text takes one line"
    assert "\u2026 1 " in rows[0]
