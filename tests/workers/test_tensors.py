"""The tensor file: its size told beforehand, its keys, its bytes."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.numpy import load

from catalogue.memory import tensor_bytes
from catalogue.workload import Workload, workload
from schemas.names import Method
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.sections import AttentionSection, Rows
from schemas.settings import Settings
from tests.catalogue.models import described
from tests.workers.analyses.traces import planted
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.tensors import TensorFile


def work(lengths: list[int], rows: dict[Method, Rows]) -> Workload:
    """Tensors of one layer of three channels, as `planted` traces have."""
    model = described(layers=1, channels=3)
    request = JobRequest(
        texts=["a"] * len(lengths),
        attention=AttentionSection(methods=list(rows)),
        tensors=True,
    )
    found = workload(request, model, lengths, Settings())
    return replace(found, rows=rows)


@pytest.mark.parametrize("rows", ["target", "all"])
def test_the_size_told_is_the_size_held(rows: Rows) -> None:
    file, wanted = TensorFile(limit=10**6), dict.fromkeys(Method, rows)
    file.expect(tensor_bytes(work([5, 2], wanted)))
    for text, length in enumerate((5, 2)):
        plan = ReadingPlan(frozenset({0}), list(Method), 1, 1e-4, wanted)
        (reading,) = read_layers({0: planted(torch.eye(length))}, plan)
        file.add(0, text, 0, reading.maps)
    assert sum(array.nbytes for array in file.held.values()) == file.expected
    found = load(file.render())
    assert found["m0/t0/l0/rollout/matrix"].shape == ((1, 5) if rows == "target" else (5, 5))
    assert found["m0/t1/l0/contribution/signed_relevance"].shape == (2,)
    assert found["m0/t1/l0/contribution/matrix"].shape == ((1, 2) if rows == "target" else (2, 2))
    assert {str(array.dtype) for array in found.values()} == {"float32"}


def test_a_row_of_a_matrix_is_written_as_that_row() -> None:
    plan = ReadingPlan(frozenset({0}), [Method.ATTENTION_WEIGHTED], 2, 1e-4)
    weights = torch.arange(9.0).view(3, 3).tril()
    (reading,) = read_layers({0: planted(weights)}, plan)
    file = TensorFile(limit=10**6)
    file.add(1, 0, 4, reading.maps)
    found = load(file.render())
    assert found["m1/t0/l4/attention_weighted/token_relevance"].tolist() == [6.0, 7.0, 8.0]


def test_over_the_limit_names_both_numbers_and_the_field() -> None:
    # (2 + 1) * 2 + 2 * 3 = 12 numbers a model.
    size = tensor_bytes(work([2], {Method.ROLLOUT: "all"}))
    file = TensorFile(limit=95)
    file.expect(size)
    with pytest.raises(ProblemError, match="would hold 96 bytes; a job's may hold 95") as failed:
        file.expect(size)
    assert failed.value.kind is ProblemType.INVALID_REQUEST
    assert [error.pointer for error in failed.value.problem.errors] == ["/tensors"]


_WITHOUT_ROOM = """
import resource
from pathlib import Path
import numpy as np
from workers.tensors import TensorFile

tensors = TensorFile(1 << 30, held={"m0/t0/l0/rollout/matrix": np.zeros(1 << 26, np.float32)})
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 27), resource.RLIM_INFINITY))
try:
    tensors.render()
except MemoryError:
    print("typed")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_does_not_fit_into_memory_is_a_memory_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "typed\n", ended.stderr
