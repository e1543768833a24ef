"""Whole jobs that look for facts and intervene on what they find, on models that recall."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.names import Block, Intervening
from schemas.problem import ProblemType
from schemas.settings import Settings
from tests.workers.bench import Bench

PROMPTS = [
    "apple 3 river 7 stone 1 river",
    "river 7 apple 3 house 2 river",
    "stone 1 river 7 apple 4 river",
    "house 5 river 7 stone 2 river",
]
FACT = {"prompt": PROMPTS[0], "answer": " 7", "paraphrases": PROMPTS[1:]}
CONTROLS = ["house 5 stone 2 house", "apple 9 stone 2 apple"]
MODELS = ["pocket/recall-mamba", "pocket/recall-mamba2", "pocket/recall-gpt2"]


@pytest.fixture
def settings(valkey: str, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=SecretStr(valkey),
        key_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path / "data",
        device="cpu",
    )


def job(**fields: Any) -> dict[str, Any]:
    usual = {"texts": PROMPTS, "layers": "all", "figures": False, "attention": None}
    return usual | fields


def test_a_fact_is_forgotten_with_its_neurons_and_not_with_others(bench: Bench) -> None:
    sets = [{"found_by": "knowledge_neurons", "count": 50}]
    asked = {"sets": sets, "control_texts": CONTROLS}
    fields = job(models=MODELS, knowledge_neurons={"facts": [FACT]}, perturbation=asked)
    document = bench.run(**fields).document
    assert [found.model for found in document.knowledge_neurons] == MODELS
    for knowledge, perturbed in zip(document.knowledge_neurons, document.perturbation, strict=True):
        [fact] = knowledge.facts
        assert fact.answer_tokens == ["7"]
        assert all(prompt.probability > 0.99 for prompt in fact.prompts)
        [chosen], [result] = perturbed.sets, perturbed.results
        named = {(each.layer, each.block, each.neuron) for each in fact.neurons}
        assert {(ref.layer, ref.block, ref.neuron) for ref in chosen.neurons} == named
        fall, by_chance = -result.effect.probability, -result.random.probability.mean
        assert fall > 5 * max(by_chance, 1e-6), (knowledge.model, fall, by_chance)
        assert result.more_extreme == 0
        assert result.control is not None
        assert abs(result.control.probability) < 0.5 * fall


def test_sets_are_made_of_what_the_sections_found(bench: Bench) -> None:
    by = ["variance", "text_variance", "position_correlation", "attribution", "contribution"]
    sets = [{"found_by": name, "count": 3} for name in by]
    sets.append({"neurons": [{"layer": 1, "block": "mlp", "neuron": 7}]})
    kinds = [{"kind": "zero"}, {"kind": "mean"}, {"kind": "noise"}, {"kind": "scale", "factor": 2}]
    fields = job(
        models=["pocket/recall-gpt2"],
        attention={"methods": ["contribution"]},
        neurons={"attribution": True},
        perturbation={"sets": sets, "interventions": kinds, "random_sets": 3},
    )
    document = bench.run(**fields).document
    [perturbed], [neurons] = document.perturbation, document.neuron_analysis
    assert [found.found_by for found in perturbed.sets] == [*by, None]
    for found in perturbed.sets[:4]:
        ranking = {
            (block.layer, block.block, entry.neuron): abs(entry.value)
            for block in neurons.blocks
            for entry in block.rankings[found.found_by]
        }
        best = sorted(ranking, key=lambda at: -ranking[at])[:3]
        assert [(ref.layer, ref.block, ref.neuron) for ref in found.neurons] == best
    assert {ref.block for ref in perturbed.sets[4].neurons} == {Block.MIXER}
    pairs = [(result.set_index, result.intervention.kind) for result in perturbed.results]
    assert pairs == [(index, kind) for index in range(6) for kind in Intervening]
    assert all(result.random_sets == 3 for result in perturbed.results)


def test_nothing_found_is_said_and_not_passed_over(bench: Bench) -> None:
    # Texts of one length have no positions to tell apart: the first token alone.
    sets = {"sets": [{"found_by": "position_correlation"}]}
    failure = bench.fail(**job(texts=["apple"], models=MODELS[:1], perturbation=sets))
    assert failure.kind is ProblemType.INVALID_REQUEST
    [error] = failure.problem.errors
    assert error.pointer == "/perturbation/sets/0/found_by"
    assert "`position_correlation` found no neuron" in error.detail


def test_a_prompt_that_does_not_fit_the_memory_is_refused(bench: Bench) -> None:
    narrow = bench.runtime.settings.model_copy(update={"job_memory_bytes": 60 << 20})
    cramped = Bench(replace(bench.runtime, settings=narrow), bench.jobs)
    fact = {"prompt": " ".join(["apple 3"] * 2000) + " apple", "answer": " 3"}
    fields = job(models=MODELS[:1], texts=["apple 3"], knowledge_neurons={"facts": [fact]})
    failure = cramped.fail(**fields, neurons=None)
    assert failure.kind is ProblemType.INVALID_REQUEST
    [error] = failure.problem.errors
    assert error.pointer == "/knowledge_neurons/facts/0/prompt"
    assert "4002 tokens" in error.detail


def test_figures_and_progress_of_interventions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    store = bench.jobs.store
    progress = store.progress
    monkeypatch.setattr("workers.progress.INTERVAL", 0.0)
    monkeypatch.setattr(
        type(store),
        "progress",
        lambda self, attempt, found: (
            told.append((str(found.stage), found.fraction)),
            progress(attempt, found),
        ),
    )
    fields = job(
        models=MODELS[:2],
        figures=True,
        neurons=None,
        knowledge_neurons={"facts": [FACT]},
        perturbation={"sets": [{"found_by": "knowledge_neurons"}]},
    )
    outcome = bench.run(**fields)
    names = [name for name in outcome.names if name.endswith(".png")]
    assert names == [
        f"pocket_{model}--{section}.png"
        for section in ("knowledge_neurons", "perturbation")
        for model in ("recall-mamba", "recall-mamba2")
    ]
    fractions = [fraction for stage, fraction in told if stage == "intervening"]
    assert len(fractions) > 4
    assert fractions == sorted(fractions)
