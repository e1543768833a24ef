"""Jobs that do not fit the memory they may use: refused before they are queued, with a way out."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalogue.admission import admit
from catalogue.budget import memory_error, require_room
from catalogue.cached import description
from catalogue.locate import locate
from catalogue.memory import activation_room, is_plausible, needs, result_bytes, weight_bytes
from catalogue.passing import activation_bytes
from catalogue.reading import reading_bytes
from catalogue.workload import Workload, workload
from schemas.names import Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.settings import GIB, Settings
from tests.catalogue.models import MAMBA, declare_weights, described, save_model
from tests.tiny_architectures import save_mamba2

ALL = ["attention_weighted", "gradient_guided", "rollout", "contribution"]
# Large enough that every part of the estimate is far from nothing, and no weights are read.
WIDE = MAMBA | {"hidden_size": 1024, "state_size": 16, "num_hidden_layers": 12, "vocab_size": 1000}
WIDE_PARAMETERS = 85_000_000
DEVICES = {"auto": False, "cpu": False, "cuda": True, "cuda:1": True}


@pytest.mark.parametrize("states", [8, 128])
def test_a_model_with_more_states_than_it_is_wide_is_plausible(tmp_path: Path, states: int) -> None:
    """An SSD's B and C are shared by heads, so that states cost little."""
    save_mamba2(tmp_path / "states", state_size=states)
    settings = Settings(model_dir=tmp_path)
    model = description(locate("states", settings), settings)
    assert is_plausible(model)
    assert not is_plausible(model.model_copy(update={"parameters": model.parameters // 2}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    declare_weights(save_model(tmp_path / "wide", WIDE), WIDE_PARAMETERS)
    return Settings(
        model_dir=tmp_path, threads=2, max_contribution_tokens=10**6, max_total_tokens=10**6
    )


def faults(settings: Settings, **fields: Any) -> list[tuple[str, str]]:
    """(pointer, detail) of everything that is wrong with a request."""
    try:
        admit(JobRequest.model_validate({"models": ["wide"]} | fields), settings)
    except ProblemError as error:
        assert error.kind is ProblemType.INVALID_REQUEST
        return [(entry.pointer, entry.detail) for entry in error.problem.errors]
    return []


def work(lengths: list[int], **fields: Any) -> Workload:
    request = JobRequest.model_validate({"texts": ["a"] * len(lengths)} | fields)
    return workload(request, described(), lengths, Settings(threads=2))


def sizes(detail: str) -> list[float]:
    return [float(size) for size in re.findall(r"([\d.]+) GiB", detail)]


def test_a_job_over_its_memory_is_refused_with_both_numbers_and_a_way_that_works(
    settings: Settings,
) -> None:
    request = {"texts": ["7", "7 " * 4096], "layers": [11], "attention": {"methods": ALL[:3]}}
    assert faults(settings, **request) == []
    tight = settings.model_copy(update={"job_memory_bytes": GIB})
    [(pointer, detail)] = faults(tight, **request)
    assert pointer == "/texts/1"
    found = sizes(detail)
    assert found[0] > 1.0
    assert found[-1] == 1.0
    assert sum(found[1:-1]) == pytest.approx(found[0], rel=0.05)
    assert "MAMBASCOPE_JOB_MEMORY_BYTES" in detail
    fitting = int(re.findall(r"about (\d+) tokens", detail)[0])
    assert faults(tight, **(request | {"texts": ["7", "7 " * fitting]})) == []
    assert faults(tight, **(request | {"texts": ["7", "7 " * (fitting + 1)]})) != []


def test_the_number_refused_never_reads_as_the_number_allowed(settings: Settings) -> None:
    attention = {"methods": ["attention_weighted"]}
    asked = JobRequest(texts=["a"], layers=[11], attention=attention)
    at_work = workload(asked, described(), [3000], settings)
    results = result_bytes(at_work)
    total = needs(at_work, results).total
    assert memory_error(0, at_work, results, total) is None
    error = memory_error(0, at_work, results, total - 1)
    assert error is not None
    found = sizes(error.detail)
    assert found[0] > found[-1]


def test_rows_of_the_target_are_named_as_a_way_out_only_where_they_are_one(
    settings: Settings,
) -> None:
    tight = settings.model_copy(update={"job_memory_bytes": GIB})
    text, whole = ["7 " * 4000], {"methods": ["attention_weighted"]}
    [(_, detail)] = faults(tight, texts=text, layers=[11], attention=whole)
    assert "`attention.rows`" in detail
    assert faults(tight, texts=text, layers=[11], attention=whole | {"rows": "target"}) == []
    [(_, detail)] = faults(tight, texts=text, layers=[0], attention={"methods": ALL})
    assert "`attention.rows`" not in detail


def test_the_clamp_of_a_rollout_is_named_where_its_matrices_are_all_that_does_not_fit(
    settings: Settings,
) -> None:
    tight = settings.model_copy(update={"job_memory_bytes": GIB, "max_row_tokens": 30_000})
    request = {"texts": ["7 " * 4000], "layers": [11]}
    rollout = {"methods": ["rollout"], "rows": "target"}
    [(_, detail)] = faults(tight, **request, attention=rollout)
    assert "Set `attention.rollout_clamp` to `false`" in detail
    assert "`attention.rows`" not in detail
    assert faults(tight, **request, attention=rollout | {"rollout_clamp": False}) == []
    [(_, detail)] = faults(tight, **request, attention={"methods": ["rollout"]})
    assert "to `target` and set `attention.rollout_clamp` to `false`" in detail


def test_methods_that_need_the_gradient_are_named_where_leaving_them_out_is_enough(
    settings: Settings,
) -> None:
    tight = settings.model_copy(update={"job_memory_bytes": GIB})
    request = {"texts": ["7 " * 3000], "layers": [0]}
    methods = ["attention_weighted", "gradient_guided", "contribution"]
    [(_, detail)] = faults(tight, **request, attention={"methods": methods})
    assert "leave out `gradient_guided` and `contribution`" in detail.lower()
    assert faults(tight, **request, attention={"methods": methods[:1]}) == []


@pytest.mark.parametrize("parameters", [WIDE_PARAMETERS, 10**12])
def test_a_model_that_does_not_fit_by_itself_is_named(
    settings: Settings, tmp_path: Path, parameters: int
) -> None:
    declare_weights(tmp_path / "wide", parameters)
    tight = settings.model_copy(update={"job_memory_bytes": 4 * WIDE_PARAMETERS - 1})
    [(pointer, detail)] = faults(tight, texts=["7"])
    assert pointer == "/models/0"
    assert "to load" in detail
    assert len(sizes(detail)) == 2


def test_what_the_models_of_a_job_keep_adds_up(settings: Settings, tmp_path: Path) -> None:
    names = [f"wide{index}" for index in range(8)]
    for name in names:
        declare_weights(save_model(tmp_path / name, WIDE), WIDE_PARAMETERS)
    attention = {"methods": ["attention_weighted"]}
    request = {"texts": ["7 " * 2000] * 4, "attention": attention, "tensors": True, "layers": [11]}
    one = settings.model_copy(update={"job_memory_bytes": GIB})
    assert faults(one, **request) == []
    found = faults(one, **(request | {"models": names}))
    assert [pointer for pointer, _ in found] == ["/texts/0"] * 8
    assert all("results" in detail for _, detail in found)


def test_tensors_over_their_limit_are_refused_before_the_queue(settings: Settings) -> None:
    request = {"texts": ["7 " * 100] * 2, "layers": "all", "tensors": True}
    size = 2 * 12 * 3 * 4 * ((100 + 1) * 100 + 2 * 2048)
    exact = settings.model_copy(update={"max_tensor_bytes": size})
    assert faults(exact, **request) == []
    [(pointer, detail)] = faults(
        settings.model_copy(update={"max_tensor_bytes": size - 1}), **request
    )
    assert pointer == "/tensors"
    assert f"{size} bytes" in detail
    assert f"{size - 1}" in detail


def test_a_config_that_claims_more_than_its_weights_is_left_to_the_worker(tmp_path: Path) -> None:
    """What such a model would need means nothing, and loading it ends as `model-invalid`."""
    settings = Settings(model_dir=tmp_path)
    for claim in ({"hidden_size": 10**9}, {"state_size": 10**9}, {"time_step_rank": 10**9}):
        declare_weights(save_model(tmp_path / "wide", WIDE | claim), WIDE_PARAMETERS)
        assert faults(settings, texts=["7"]) == []


def test_weights_that_are_missing_or_broken_are_left_to_the_worker(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "wide", WIDE)
    settings = Settings(model_dir=tmp_path, job_memory_bytes=1)
    assert faults(settings, texts=["7"]) == []
    (directory / "model.safetensors").write_bytes(b"\xff" * 100)
    assert faults(settings, texts=["7"]) == []


@pytest.mark.parametrize("changes", [{"tensors": True}, {"layers": "all"}, {"attention": None}])
def test_shorter_texts_and_fewer_of_them_need_no_more(changes: dict[str, Any]) -> None:
    totals = []
    for lengths in ([1], [64], [64, 64], [512, 64], [4096, 512], [131072, 4096]):
        asked = work(lengths, **changes)
        totals.append(needs(asked, result_bytes(asked)).total)
    assert totals == sorted(totals)


def test_one_token_of_the_smallest_job_takes_more_than_its_weights() -> None:
    asked = work([1], attention={"methods": ["attention_weighted"], "rows": "target"})
    assert needs(asked, 0).total > weight_bytes(asked.model) + 16 * 1024**2


def test_attention_beside_a_mixer_counts_in_every_layer_above_the_lowest() -> None:
    asked = work([100], layers=[0], attention={"methods": ["gradient_guided"], "rows": "target"})
    layers = [
        layer.model_copy(update={"beside": Mixer.SOFTMAX} if layer.layer else {})
        for layer in asked.model.layers
    ]
    beside = replace(asked, model=asked.model.model_copy(update={"layers": layers}))
    # Queries, keys, values and what is read, at the least, in float32.
    least = 4 * 4 * asked.model.hidden_size * 100 * (len(layers) - 1)
    assert activation_bytes(beside) > activation_bytes(asked) + least


def test_the_room_for_a_batch_is_what_model_matrices_and_results_leave() -> None:
    asked = work([256] * 64)
    results = result_bytes(asked)
    alone = needs(asked, results).total
    assert activation_room(asked, results, alone) < activation_room(asked, results, 2 * alone)
    assert activation_room(asked, results, 1) == 0
    with pytest.raises(ProblemError) as caught:
        require_room(0, asked, results, alone - 1)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    assert require_room(0, asked, results, 2 * alone) > 0


def test_a_gpu_takes_texts_whole_so_that_a_long_one_takes_more_there() -> None:
    """By the formulas alone: no GPU has measured them."""
    long = work([60_000], layers=[0], attention={"methods": ["gradient_guided"], "rows": "target"})
    there = replace(long, on_gpu=True)
    assert needs(there, 0).activations > 4 * needs(long, 0).activations
    square = work([3000], layers=[11], attention={"methods": ["attention_weighted"]})
    # Sums over 4,096 tokens of which 3,000 are there.
    assert reading_bytes(replace(square, on_gpu=True), 3000) > 4 * 4096**2


def test_a_worker_with_a_gpu_counts_as_one() -> None:
    request = JobRequest(texts=["a"])
    named = {name: workload(request, described(), [1], Settings(device=name)) for name in DEVICES}
    assert {name: found.on_gpu for name, found in named.items()} == DEVICES
