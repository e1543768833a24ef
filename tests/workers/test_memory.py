"""What a job is said to need, against what a real one takes; and a worker with less than that."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from schemas.settings import GIB, Settings
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_takes_no_more_than_it_is_said_to_need_and_not_far_less(
    settings: Settings, tmp_path: Path
) -> None:
    """The slack is wide: torch and the system keep freed memory or give it back as they like."""
    save_mamba(
        tmp_path / "models" / "wide", hidden_size=HIDDEN, num_hidden_layers=LAYERS, state_size=16
    )
    site = settings.model_copy(
        update={"model_dir": tmp_path / "models", "device": "cpu", "threads": 2}
    )
    site.model_fields_set.update(("model_dir", "device", "threads"))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.workers.measuring"],
        input="".join(json.dumps(request) + "\n" for request in JOBS.values()),
        env=environment(site),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(zip(JOBS, map(json.loads, ended.stdout.splitlines()), strict=True))
    assert found.keys() == JOBS.keys(), ended.stderr
    ratios = {name: sizes["told"] / sizes["taken"] for name, sizes in found.items()}
    assert all(1 <= ratio <= 3 for ratio in ratios.values()), (ratios, found)
    assert all(sizes["taken"] > 50_000_000 for sizes in found.values())


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
