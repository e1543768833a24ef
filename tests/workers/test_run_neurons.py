"""Whole jobs whose neurons are asked for: over all texts, alone and in company, many and few."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import SecretStr

from catalogue.locate import locate
from schemas.names import Block, Mixer, Ranking
from schemas.neurons import NeuronAnalysis
from schemas.problem import ProblemType
from schemas.settings import Settings
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import save_gpt2, save_mamba
from tests.workers.bench import TEXTS, Bench
from workers.mixers.sites import reading, sites_of
from workers.models.loading import load
from workers.run import start

CHANNELS = 96


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_mamba(root / "tiny", bias=True)
    save_gpt2(root / "gpt2-tiny")
    ARCHITECTURES["jamba"][0](root / "experts")
    return root


@pytest.fixture
def settings(valkey: str, tmp_path: Path, model_dir: Path) -> Settings:
    return Settings(
        redis_url=SecretStr(valkey),
        key_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path / "data",
        model_dir=model_dir,
        device="cpu",
    )


def plain_neurons(settings: Settings, name: str, texts: list[str]) -> dict[Any, np.ndarray]:
    """Every neuron at every token, one text at a time, by layer and block."""
    loaded = load(locate(name, settings), settings)
    sites = sites_of(loaded.model, range(8))
    found: dict[Any, list[np.ndarray]] = {}
    for text in texts:
        ids = torch.tensor([loaded.tokeniser.ids(text)])
        shape = (1, ids.shape[1])

        def keep(site: Any, x: torch.Tensor) -> None:
            found.setdefault(site.place, []).append(x[0].double().numpy())

        with torch.no_grad(), reading(sites, shape, keep):
            loaded.model(input_ids=ids)
    return {at: np.concatenate(parts) for at, parts in found.items()}


def analysed(bench: Bench, **fields: Any) -> NeuronAnalysis:
    [found] = bench.run(**({"figures": False} | fields)).document.neuron_analysis
    return found


def test_neurons_of_a_whole_job(bench: Bench, settings: Settings) -> None:
    found = analysed(bench, layers=[0, 2])
    assert (found.model, found.texts, found.tokens) == ("tiny", 3, 15)
    assert [(block.layer, block.block) for block in found.blocks] == [(0, "mixer"), (2, "mixer")]
    plain = plain_neurons(settings, "tiny", TEXTS)
    for block in found.blocks:
        expected = plain[block.layer, block.block]
        assert (block.mixer, block.num_neurons) == (Mixer.S6, CHANNELS)
        np.testing.assert_allclose(block.statistics.mean, expected.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(block.statistics.std, expected.std(0), rtol=1e-4, atol=1e-6)
        best = block.rankings[Ranking.VARIANCE]
        assert [entry.neuron for entry in best] == np.argsort(-expected.var(0))[:10].tolist()
        # A gradient is there anyway, for `gradient_guided`.
        assert block.attribution is not None
        assert {entry.neuron for ranking in block.rankings.values() for entry in ranking} >= {
            profile.neuron for profile in block.profiles
        }
        assert set(block.rankings) == set(Ranking)


def test_attribution_is_what_leaving_a_little_out_changes(bench: Bench) -> None:
    found = analysed(bench, texts=TEXTS[:1], layers=[1])
    [block] = found.blocks
    assert block.attribution is not None
    total = sum(block.attribution)
    # By the chain rule it is also the target's slope as all of the block's neurons are scaled.
    loaded = bench.runtime.models.get("tiny")[0]
    ids = torch.tensor([loaded.tokeniser.ids(TEXTS[0])])
    [site] = sites_of(loaded.model, [1])
    slopes = []
    for factor in (0.99, 1.01):
        weight = site.projection.weight
        with torch.no_grad():
            weight.mul_(factor)
            logits = loaded.model(input_ids=ids).logits[0, -1].double()
            weight.div_(factor)
        slopes.append(logits)
    top = int((slopes[0] + slopes[1]).argmax())
    slope = float(slopes[1][top] - slopes[0][top]) / 0.02
    assert total == pytest.approx(slope, rel=0.02, abs=1e-3)


def test_no_gradient_is_computed_that_nobody_asked_for(bench: Bench) -> None:
    methods = {"methods": ["attention_weighted"]}
    [block] = analysed(bench, layers=[1], attention=methods).blocks
    assert block.attribution is None
    assert Ranking.ATTRIBUTION not in block.rankings
    asked = {"neurons": {"attribution": True}, "attention": None, "layers": [1]}
    [forced] = analysed(bench, **asked).blocks
    [usual] = analysed(bench, layers=[1]).blocks
    assert forced.attribution is not None
    np.testing.assert_allclose(forced.attribution, usual.attribution, rtol=1e-4, atol=1e-7)
    never = {"neurons": {"attribution": False}, "layers": [1]}
    assert analysed(bench, **never).blocks[0].attribution is None


def test_attention_and_neurons_of_different_layers(bench: Bench) -> None:
    attention = {"layers": [1], "rows": "target"}
    for layers in ([0], [2], [0, 2]):
        document = bench.run(layers=layers, attention=attention, figures=False).document
        assert [block.layer for block in document.neuron_analysis[0].blocks] == layers
        assert document.layers == {"tiny": [1]}
        for result in document.results:
            assert sorted(result.attention_analysis) == [1]
    # What else is read does not change what the rollout says.
    alone = bench.run(layers=[1], attention=attention, neurons=None, figures=False).document
    again = document.results[0].attention_analysis[1].methods
    for method, expected in alone.results[0].attention_analysis[1].methods.items():
        np.testing.assert_allclose(
            again[method].token_relevance, expected.token_relevance, rtol=1e-5, atol=1e-8
        )
    assert alone.neuron_analysis == []


def test_blocks_of_a_gpt2_and_of_experts(bench: Bench) -> None:
    both = analysed(bench, models=["gpt2-tiny"])
    assert [(b.layer, b.block) for b in both.blocks] == [
        (layer, block) for layer in (0, 1) for block in Block
    ]
    assert all(block.attribution is not None for block in both.blocks)
    assert all(Ranking.DELTA_VARIANCE not in block.rankings for block in both.blocks)
    only = analysed(bench, models=["gpt2-tiny"], neurons={"blocks": ["mlp"]})
    assert {block.block for block in only.blocks} == {"mlp"}
    for one, other in zip([b for b in both.blocks if b.block == "mlp"], only.blocks, strict=True):
        assert one.model_dump() == other.model_dump()
    experts = analysed(bench, models=["experts"], layers="all")
    assert experts.unavailable_reason is not None
    assert "layers 1, 3 of `experts` is made of experts" in experts.unavailable_reason
    none = analysed(bench, models=["tiny"], neurons={"blocks": ["mlp"]})
    assert none.blocks == []
    assert none.unavailable_reason is not None
    assert "an MLP" in none.unavailable_reason


def test_jobs_in_company_have_the_neurons_they_have_alone(bench: Bench) -> None:
    fields = {"figures": False, "layers": [0, 1]}
    alone = [analysed(bench, texts=[text], **fields) for text in TEXTS]
    attempts = [bench.start(texts=[text], **fields) for text in TEXTS]
    for steps in start(bench.runtime, attempts):
        for _ in steps:
            pass
    for attempt, expected in zip(attempts, alone, strict=True):
        [found] = bench.outcome(attempt).document.neuron_analysis
        assert (found.texts, found.tokens) == (expected.texts, expected.tokens)
        for one, other in zip(found.blocks, expected.blocks, strict=True):
            np.testing.assert_allclose(
                one.statistics.std, other.statistics.std, rtol=1e-3, atol=1e-6
            )
            np.testing.assert_allclose(one.attribution, other.attribution, rtol=1e-2, atol=1e-5)


def test_many_texts_are_read_batch_by_batch(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tracing._BATCH_TOKENS", 128)
    texts = [" ".join(f"w{(3 * i + k) % 36}" for k in range(1 + i % 7)) for i in range(300)]
    told: list[float] = []
    store = bench.jobs.store
    progress = store.progress
    monkeypatch.setattr("workers.progress.INTERVAL", 0.0)
    monkeypatch.setattr(
        type(store),
        "progress",
        lambda self, attempt, found: (told.append(found.fraction), progress(attempt, found)),
    )
    outcome = bench.run(texts=texts, attention=None, figures=False, layers=[0, 2])
    document = outcome.document
    [found] = document.neuron_analysis
    assert (found.texts, found.tokens) == (300, sum(1 + i % 7 for i in range(300)))
    assert [result.text_index for result in document.results] == list(range(300))
    plain = plain_neurons(settings, "tiny", texts)
    for block in found.blocks:
        expected = plain[block.layer, block.block]
        np.testing.assert_allclose(block.statistics.std, expected.std(0), rtol=1e-4, atol=1e-6)
    between = {round(fraction, 2) for fraction in told if 0.2 < fraction < 0.9}
    assert len(between) > 5


def test_a_text_that_fails_is_the_jobs_failure(bench: Bench) -> None:
    loaded = bench.runtime.models.get("tiny")[0]
    loaded.model.get_input_embeddings().weight.data[8] = float("nan")
    texts = [f"w{1 + i % 6} w2" for i in range(30)]
    fields = {"attention": None, "figures": False}
    assert analysed(bench, texts=texts, **fields).texts == 30
    failure = bench.fail(texts=[*texts, "w3 w7"], **fields)
    assert failure.kind is ProblemType.NOT_FINITE
    assert "text 30" in failure.problem.detail
    # Where the logits read stand before it, the neurons tell.
    failure = bench.fail(texts=["w3 w7"], target={"position": 0}, **fields)
    assert failure.kind is ProblemType.NOT_FINITE
    assert "Layer 0: the neurons of its mixer" in failure.problem.detail


def test_figures_of_neurons_are_among_the_artifacts(bench: Bench) -> None:
    outcome = bench.run(models=["gpt2-tiny"], attention=None, texts=TEXTS[:2])
    [found] = outcome.document.neuron_analysis
    named = [name for block in found.blocks for name in block.artifacts] + found.artifacts
    assert named == outcome.names[1:]
    assert named == [
        *(f"neurons_{block}_layer{layer}.png" for layer in (0, 1) for block in ("mixer", "mlp")),
        "neurons_overview.png",
    ]
    shows = {artifact.name: artifact.shows for artifact in outcome.artifacts}
    assert (shows[named[1]].layer, shows[named[1]].block) == (0, "mlp")
