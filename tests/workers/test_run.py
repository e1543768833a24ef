"""Whole jobs: real store, real models saved on disk, real figures."""

import json
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from safetensors.numpy import load
from safetensors.torch import load_file, save_file
from transformers import MambaForCausalLM

from jobs import Attempt, Jobs, StaleAttempt
from schemas.names import Method, Mixer, Status
from schemas.problem import ProblemType
from schemas.settings import Settings
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import LAYERS, WORDS, save_gpt2, save_mamba
from tests.workers.bench import TEXTS, Bench
from workers.run import open_runtime, start

CHANNELS = 96


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_mamba(root / "tiny", bias=True)
    save_mamba(root / "other", seed=1, hidden_size=32, num_hidden_layers=2)
    save_gpt2(root / "gpt2-tiny")
    ARCHITECTURES["nemotron_h"][0](root / "hybrid")
    return root


@pytest.fixture
def settings(valkey: str, tmp_path: Path, model_dir: Path) -> Settings:
    return Settings(
        redis_url=SecretStr(valkey),
        key_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path / "data",
        model_dir=model_dir,
        device="cpu",
        max_tensor_bytes=200_000,
    )


def test_a_whole_job(bench: Bench) -> None:
    outcome = bench.run(texts=["w1 w2 w3 w2 w1"], layers=[0, 2], seed=7)
    job = bench.jobs.store.get(outcome.attempt.job_id)
    assert job is not None
    assert job.status is Status.SUCCEEDED
    document = outcome.document
    assert document.job_id == job.id
    assert document.layers == {"tiny": [0, 2]}
    assert document.provenance.seed == 7
    assert document.provenance.models[0].model == "tiny"
    assert set(document.provenance.seconds) == {
        "loading",
        "tracing",
        "analysing",
        "drawing",
        "storing",
    }
    assert document.provenance.versions["torch"] == torch.__version__
    (result,) = document.results
    assert [token.text for token in result.tokens] == ["w1", "w2", "w3", "w2", "w1"]
    assert result.has_attention_analysis
    assert sorted(result.attention_analysis) == [0, 2]
    for layer in result.attention_analysis.values():
        assert layer.reconstruction_error < 1e-5
        assert list(layer.methods) == ["attention_weighted", "gradient_guided", "rollout"]
        for found in layer.methods.values():
            assert len(found.token_relevance) == 5
            assert found.row_sum_error < 1e-5
            assert found.neurons.num_neurons == CHANNELS
            assert len(found.neurons.top_by_activation) == 10


def test_every_named_figure_is_stored_and_every_stored_one_named(bench: Bench) -> None:
    outcome = bench.run(texts=TEXTS[:2], layers=[0, 1])
    named = [name for result in outcome.document.results for name in result.artifacts]
    for result in outcome.document.results:
        for layer in result.attention_analysis.values():
            named += [name for found in layer.methods.values() for name in found.artifacts]
    [averages] = outcome.document.attention_knowledge_averages
    [neurons] = outcome.document.neuron_analysis
    named += [*averages.artifacts, *neurons.artifacts]
    named += [name for block in neurons.blocks for name in block.artifacts]
    assert sorted(outcome.names) == sorted(["result.json", *named])
    assert "text1--attention_neurons_rollout_layer1.png" in named
    figures = [artifact for artifact in outcome.artifacts if artifact.kind == "figure"]
    assert len(figures) == 2 * (2 * 3 + 2 + 3) + 1 + 3
    for artifact in figures:
        assert artifact.media_type == "image/png"
        assert outcome.read(artifact.name).startswith(b"\x89PNG")
        assert artifact.shows.model == "tiny"


def test_the_target_is_what_the_model_itself_says(bench: Bench, model_dir: Path) -> None:
    target = {"position": -2, "token": "w9", "contrast": "w3"}
    document = bench.run(texts=[TEXTS[0], TEXTS[2]], target=target, figures=False).document
    model = MambaForCausalLM.from_pretrained(model_dir / "tiny").eval()
    for result in document.results:
        ids = torch.tensor([[token.id for token in result.tokens]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -2]
        assert result.target.position == len(result.tokens) - 2
        assert result.target.token.token == "w9"
        expected = float(logits[10] - logits[4])
        assert result.target.value == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert result.target.top[0].id == int(logits.argmax())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_what_its_rounded_weights_give_in_float32(
    bench: Bench, model_dir: Path, dtype: torch.dtype
) -> None:
    names = {kind: f"{kind}-{str(dtype).removeprefix('torch.')}" for kind in ("stored", "widened")}
    stored = save_mamba(model_dir / names["stored"], dtype=dtype)
    widened = shutil.copytree(stored, model_dir / names["widened"])
    weights = load_file(stored / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    wide = {key: tensor.float() for key, tensor in weights.items()}
    save_file(wide, widened / "model.safetensors")
    asked = {"layers": "all", "attention": {"methods": list(Method)}, "figures": False}
    documents = [bench.run(models=[name], **asked).document for name in names.values()]
    assert {document.provenance.models[0].dtype for document in documents} == {"float32"}
    one, other = ([r.model_dump(exclude={"model"}) for r in d.results] for d in documents)
    assert one == other


def test_texts_together_are_texts_alone(bench: Bench) -> None:
    methods = [str(method) for method in Method]
    choices = {"attention": {"methods": methods}, "figures": False, "layers": "all"}
    together = bench.run(**choices).document.results
    assert [result.text_index for result in together] == [0, 1, 2]
    for index, text in enumerate(TEXTS):
        (alone,) = bench.run(texts=[text], **choices).document.results
        for layer, expected in alone.attention_analysis.items():
            for method, one in expected.methods.items():
                other = together[index].attention_analysis[layer].methods[method]
                for ours, theirs in (
                    (other.token_relevance, one.token_relevance),
                    (other.neurons.activation, one.neurons.activation),
                    (other.neurons.importance, one.neurons.importance),
                ):
                    scale = max(map(abs, theirs))
                    # Float32 sums in another order: batches use other matrix shapes.
                    assert ours == pytest.approx(theirs, rel=0, abs=2e-5 * scale)


def test_jobs_together_are_jobs_alone(bench: Bench) -> None:
    choices = {"figures": False, "layers": "all"}
    together = [bench.start(texts=[text], **choices) for text in TEXTS]
    running = start(bench.runtime, together)
    for steps in running:
        next(steps)
        assert bench.jobs.store.artifacts(together[0].job_id) is None
    for steps in running:
        assert next(steps, "over") == "over"
    for attempt, text in zip(together, TEXTS, strict=True):
        (ours,) = bench.outcome(attempt).document.results
        (theirs,) = bench.run(texts=[text], **choices).document.results
        assert ours.tokens == theirs.tokens
        assert ours.target.token.id == theirs.target.token.id
        for layer, expected in theirs.attention_analysis.items():
            for method, alone in expected.methods.items():
                found = ours.attention_analysis[layer].methods[method]
                scale = max(map(abs, alone.token_relevance))
                # Float32 sums in another order: batches use other matrix shapes.
                wanted = pytest.approx(alone.token_relevance, rel=0, abs=2e-5 * scale)
                assert found.token_relevance == wanted


def test_rollout_at_one_layer_is_that_of_all_layers(bench: Bench) -> None:
    choices = {"attention": {"methods": ["rollout"]}, "figures": False, "texts": TEXTS[2:]}
    (alone,) = bench.run(layers=[2], **choices).document.results
    (every,) = bench.run(layers="all", **choices).document.results
    assert list(alone.attention_analysis) == [2]
    assert alone.attention_analysis[2] == every.attention_analysis[2]


def test_tensors(bench: Bench) -> None:
    section = {"methods": ["gradient_guided", "contribution"]}
    outcome = bench.run(layers=[1], attention=section, tensors=True, figures=False)
    assert outcome.names == ["result.json", "tensors.safetensors"]
    found = load(outcome.read("tensors.safetensors"))
    whats = {"matrix", "token_relevance", "neuron_activation", "neuron_importance"}
    expected = {f"m0/t{t}/l1/{m}/{w}" for t in range(3) for m in section["methods"] for w in whats}
    expected |= {f"m0/t{t}/l1/contribution/signed_relevance" for t in range(3)}
    assert set(found) == expected
    shown = outcome.document.results[2].attention_analysis[1].methods[Method.GRADIENT_GUIDED]
    matrix = found["m0/t2/l1/gradient_guided/matrix"]
    assert shown.heatmap.rows[8] == pytest.approx(matrix[8].tolist(), rel=1e-6)
    assert shown.token_relevance == pytest.approx(matrix.sum(0).tolist(), rel=1e-4, abs=1e-9)


def test_tensors_over_the_limit_are_refused_before_anything_is_computed(bench: Bench) -> None:
    text = " ".join(WORDS)
    problem = bench.fail(texts=[text] * 5, layers="all", tensors=True)
    assert problem.kind is ProblemType.INVALID_REQUEST
    assert "200000" in str(problem)
    assert problem.problem.errors[0].pointer == "/tensors"


def test_attention_switched_off(bench: Bench) -> None:
    outcome = bench.run(attention=None, neurons=None, tensors=True)
    assert outcome.names == ["result.json"]
    for result in outcome.document.results:
        assert not result.has_attention_analysis
        assert "null" in str(result.attention_unavailable_reason)
        assert len(result.target.top) == 5


def test_a_layer_without_a_mixer_is_no_error(bench: Bench) -> None:
    outcome = bench.run(models=["hybrid"], texts=TEXTS, layers=[2], tensors=True)
    # Its MLP has neurons.
    assert outcome.names == ["result.json", "neurons_mlp_layer2.png", "neurons_overview.png"]
    assert outcome.document.layers == {"hybrid": []}
    for result in outcome.document.results:
        assert not result.has_attention_analysis
        assert "Layer 2 of `hybrid` carries no token mixer" in str(
            result.attention_unavailable_reason
        )
        assert result.attention_analysis == {}


def test_a_hybrid_tells_of_every_layer_which_mixer_it_carries(bench: Bench) -> None:
    methods = {"methods": list(Method)}
    outcome = bench.run(models=["hybrid"], texts=TEXTS[:1], layers="all", attention=methods)
    [result] = outcome.document.results
    assert "Layer 2 of" in str(result.attention_unavailable_reason)
    mixers = {layer: found.mixer for layer, found in result.attention_analysis.items()}
    assert mixers == {0: Mixer.SSD, 1: Mixer.SOFTMAX, 3: Mixer.SSD}
    for layer in result.attention_analysis.values():
        assert set(layer.methods) == set(Method)
        assert 0 < layer.reconstruction_error < 1e-5
    assert "attention_neurons_rollout_layer3.png" in outcome.names


def test_several_models_in_turn(bench: Bench) -> None:
    models, rollout = ["tiny", "gpt2-tiny", "other"], {"methods": ["rollout"]}
    outcome = bench.run(models=models, texts=TEXTS[:2], layers=[1], attention=rollout)
    document = outcome.document
    order = [(result.model, result.text_index) for result in document.results]
    assert order == [(m, t) for m in models for t in (0, 1)]
    assert document.layers == {"tiny": [1], "gpt2-tiny": [1], "other": [1]}
    assert [known.model for known in document.provenance.models] == models
    assert "other--text1--attention_neurons_rollout_layer1.png" in outcome.names


def test_the_second_job_loads_nothing_and_says_the_same(bench: Bench) -> None:
    first = bench.run(texts=TEXTS, figures=False)
    second = bench.run(texts=TEXTS, figures=False)
    assert first.document.provenance.models_loaded == 1
    assert second.document.provenance.models_loaded == 0
    one, two = (json.loads(outcome.read("result.json")) for outcome in (first, second))
    for document in (one, two):
        del document["job_id"], document["provenance"]["seconds"]
        del document["provenance"]["models_loaded"]
    assert one == two


def test_the_result_is_compact_json(bench: Bench) -> None:
    raw = bench.run(texts=TEXTS[:1], figures=False).read("result.json")
    assert b"\n" not in raw
    assert b'": ' not in raw
    assert b"NaN" not in raw
    assert raw.startswith(b'{"schema_version":"1","job_id":"')


def test_progress_ends_at_one_and_never_falls(bench: Bench) -> None:
    told: list[float] = []

    class Watching:
        """The real store, seen from outside."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.jobs.store, name)

        def progress(self, attempt: Attempt, progress: Any) -> None:
            told.append(progress.fraction)
            bench.jobs.store.progress(attempt, progress)

    watched = Jobs(**(vars(bench.jobs) | {"store": Watching()}))
    attempt = bench.start(layers=[0, 1], attention={"methods": ["rollout"]}, texts=TEXTS[:2])
    runtime = replace(bench.runtime, jobs=watched)
    Bench(runtime, watched).advance(attempt)
    assert told == sorted(told)
    assert told[0] == 0.0
    assert 0.9 < told[-1] <= 1.0


def test_an_attempt_that_lost_its_job_stops(bench: Bench) -> None:
    attempt = bench.start()
    bench.jobs.store.give_up(attempt.job_id, attempt.token, "killed")
    with pytest.raises(StaleAttempt):
        bench.advance(attempt)
    job = bench.jobs.store.get(attempt.job_id)
    assert job is not None
    assert job.status is Status.QUEUED


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"models": ["absent"]}, "/models/0"),
        ({"layers": [LAYERS]}, "/layers/0"),
        ({"target": {"position": 5}}, "/target/position"),
        ({"target": {"token": "w1 w2"}}, "/target/token"),
    ],
)
def test_a_request_that_does_not_fit_fails_before_loading(
    bench: Bench, fields: dict[str, Any], pointer: str
) -> None:
    problem = bench.fail(**fields)
    assert problem.kind is ProblemType.INVALID_REQUEST
    assert problem.problem.errors[0].pointer == pointer
    assert bench.runtime.models.names() == []


def test_a_trace_beyond_the_tolerance_fails_the_job(
    bench: Bench, settings: Settings, jobs: Jobs
) -> None:
    strict = settings.model_copy(update={"reconstruction_tolerance": 1e-12})
    problem = Bench(open_runtime(strict, jobs), jobs).fail(texts=TEXTS[2:])
    assert problem.kind is ProblemType.TRACE_MISMATCH
    assert "Layer 0" in str(problem)
