"""What a job is said to need, against what a real one takes; and a worker with less than that."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from schemas.settings import GIB, Settings
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import save_mamba
from tests.workers.conftest import ROOT, environment
from workers import memory

HIDDEN, LAYERS = 256, 6


def words(count: int) -> str:
    return " ".join(f"w{index % 36}" for index in range(count))


def job(
    lengths: list[int], layers: Any, methods: list[str], rows: str | None = None, **fields: Any
) -> dict[str, Any]:
    attention = {"methods": methods, "rows": rows}
    texts = [words(length) for length in lengths]
    request = {"models": ["wide"], "texts": texts, "layers": layers, "figures": False}
    return request | {"attention": attention} | fields


JOBS = {
    # Thirty pieces: what is kept of the text counts, not what each piece takes.
    "a target row of a long text": job([30000], [LAYERS - 1], ["attention_weighted"], "target"),
    "a graph through every layer": job([1500], [0], ["gradient_guided"]),
    "matrices of one layer": job([2500], [0], ["attention_weighted"]),
    "matrices of every layer": job(
        [1000], "all", ["attention_weighted", "gradient_guided", "rollout"]
    ),
    "a row of a long text": job([6000], [LAYERS - 1], ["contribution"]),
    "tensors of many texts": job(
        [300] * 10, "all", ["attention_weighted", "gradient_guided", "rollout"], tensors=True
    ),
}


_ATTENTION = {"num_attention_heads": 8, "max_position_embeddings": 4096}
_BLOCKS = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_hidden_layers": 4}
_S6 = {"mamba_d_state": 16, "mamba_dt_rank": 16}
_SSD = {"mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 16, "mamba_chunk_size": 64}
# Few channels, so that masks and scores are most of what is held.
_NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, **_ATTENTION}

# The sizes of each architecture, beside those of the tiny one.
WIDE: dict[str, dict[str, Any]] = {
    "falcon_mamba": {
        "hidden_size": HIDDEN,
        "state_size": 16,
        "time_step_rank": 16,
        "num_hidden_layers": 4,
    },
    "jamba": {**_BLOCKS, **_ATTENTION, **_S6},
    # Its attention is most of a hybrid layer.
    "zamba": {
        **_BLOCKS,
        **_ATTENTION,
        **_S6,
        "num_key_value_heads": 8,
        "intermediate_size": 64,
        "mamba_expand": 1,
    },
    "mamba2": {
        "hidden_size": HIDDEN,
        "num_heads": 8,
        "head_dim": 64,
        "n_groups": 1,
        "state_size": 64,
        "chunk_size": 64,
        "num_hidden_layers": 4,
    },
    "bamba": {**_BLOCKS, **_ATTENTION, **_SSD, "attn_layer_indices": [2]},
    "falcon_h1": {**_BLOCKS, **_ATTENTION, **_SSD, "mamba_d_ssm": 2 * HIDDEN},
    "nemotron_h": {
        **_ATTENTION,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "head_dim": 32,
        "mamba_num_heads": 8,
        "mamba_head_dim": 64,
        "ssm_state_size": 16,
        "chunk_size": 64,
    },
    "gpt2": {"n_embd": HIDDEN, "n_layer": 4, "n_head": 8, "n_positions": 4096},
    "llama": {**_BLOCKS, **_ATTENTION, "head_dim": 32},
    # Every layer has a mask, for its window.
    "mistral": {**_NARROW, "sliding_window": 64},
    # A cap; every other layer has a window too.
    "gemma2": {**_NARROW, "sliding_window": 64},
}


def of(model: str, *asked: Any) -> dict[str, Any]:
    return job(*asked, models=[model])


MATRICES = ["attention_weighted", "gradient_guided", "rollout"]
# Each of these architectures, and every kind of job; where a part of the estimate is most of it.
WIDE_JOBS = {
    "a graph through S6 layers": of("falcon_mamba", [3000], "all", ["gradient_guided"], "target"),
    "matrices of S6 and attention": of("jamba", [1200], "all", MATRICES),
    "a graph through shared attention": of("zamba", [2500], [0], ["gradient_guided"], "target"),
    "a target row of an SSD layer": of("mamba2", [4000], [3], ["attention_weighted"], "target"),
    "a contribution row of an SSD layer": of("bamba", [4000], [3], ["contribution"], "target"),
    "matrices beside attention": of("falcon_h1", [1200], "all", MATRICES),
    "a graph where MLPs are layers of their own": of(
        "nemotron_h", [3000], "all", ["gradient_guided"], "target"
    ),
    "a contribution row of attention": of("gpt2", [4000], [3], ["contribution"], "target"),
    "matrices of grouped heads": of("llama", [1200], "all", MATRICES),
    "a graph with masks": of("mistral", [3000], "all", ["gradient_guided"], "target"),
    "a graph with a cap": of("gemma2", [1500], "all", ["gradient_guided"], "target"),
}


def measured(
    settings: Settings, models: Path, jobs: Mapping[str, Any], threads: int
) -> dict[str, dict[str, int]]:
    """What each job is said to need and what it takes, each in a process of its own."""
    ours = {"model_dir": models, "device": "cpu", "threads": threads}
    site = settings.model_copy(update=ours)
    site.model_fields_set.update(ours)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.workers.measuring"],
        input="".join(json.dumps(request) + "\n" for request in jobs.values()),
        env=environment(site),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(found) == len(jobs), ended.stderr
    return dict(zip(jobs, found, strict=True))


def require_near(found: Mapping[str, dict[str, int]]) -> None:
    """The slack is wide: torch and the system keep freed memory or give it back as they like."""
    ratios = {name: sizes["told"] / sizes["taken"] for name, sizes in found.items()}
    assert all(1 <= ratio <= 3 for ratio in ratios.values()), (ratios, found)
    assert all(sizes["taken"] > 50_000_000 for sizes in found.values()), found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_takes_no_more_than_it_is_said_to_need_and_not_far_less(
    settings: Settings, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    save_mamba(models / "wide", hidden_size=HIDDEN, num_hidden_layers=LAYERS, state_size=16)
    require_near(measured(settings, models, JOBS, threads=2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nor_does_a_job_of_another_architecture(settings: Settings, tmp_path: Path) -> None:
    """One thread, for the many small products of an SSD: waiting for a second is most of them."""
    models = tmp_path / "models"
    for name, sizes in WIDE.items():
        save, _ = ARCHITECTURES[name]
        save(models / name, **sizes)
    require_near(measured(settings, models, WIDE_JOBS, threads=1))


def test_a_worker_with_less_memory_uses_what_it_has_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(job_memory_bytes=4 * GIB)
    monkeypatch.setattr(memory, "resident", lambda: GIB)
    monkeypatch.setattr(memory, "on_machine", lambda: 5 * GIB)
    with capture_logs() as said:
        assert memory.fit(settings, torch.device("cpu")) is settings
    assert said == []
    monkeypatch.setattr(memory, "on_machine", lambda: 3 * GIB)
    with capture_logs() as said:
        assert memory.fit(settings, torch.device("cpu")).job_memory_bytes == 2 * GIB
    assert "MAMBASCOPE_JOB_MEMORY_BYTES" in str(said)
    assert str(2 * GIB) in str(said)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n"}, 8 * GIB),
        ({"memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        ({"memory/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2 * GIB),
        # What version 1 says where there is no limit.
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
    ],
)
def test_a_containers_limit_counts_where_it_is_the_smaller(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal:   {8 * GIB // 1024} kB\nMemFree: 1 kB\n")
    for name, text in files.items():
        file = tmp_path / "sys" / "fs" / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert memory.on_machine(tmp_path) == expected


def test_this_machine_can_be_asked() -> None:
    assert 0 < memory.resident() < memory.on_machine()
