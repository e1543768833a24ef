"""What `import mambascope` gives, and what it costs."""

import inspect
import pickle
import subprocess
import sys
import tomllib
import typing

import pytest

import mambascope
from mambascope import AsyncClient, Client
from mambascope.client import errors
from mambascope.client.requests import RequestFields, body
from schemas.names import Method
from schemas.problem import FieldError, Problem, ProblemType
from schemas.request import JobRequest
from schemas.sections import AttentionSection
from tests.mambascope.client.rough import finished_job
from tests.workers.conftest import ROOT

PUBLIC = """
Analysis AsyncAnalysis AsyncClient AsyncJobHandle Client Figure JobCancelled JobEndedWithoutResult
JobFailed JobGone JobHandle MambascopeError NotFound RateLimited RequestRefused ServiceFault
TensorsNotStored TimedOut Unauthenticated Unreachable
"""


def test_public_names() -> None:
    assert mambascope.__all__ == PUBLIC.split() == dir(mambascope)
    for name in mambascope.__all__:
        assert getattr(mambascope, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = mambascope.Nothing
    raised = [getattr(mambascope, name) for name in mambascope.__all__]
    raised = [kind for kind in raised if issubclass(kind, Exception)]
    assert all(issubclass(kind, mambascope.MambascopeError) for kind in raised)
    assert len(raised) == 13


def test_both_clients_and_handles_have_the_same_methods() -> None:
    for ours, other in (
        (Client, AsyncClient),
        (mambascope.JobHandle, mambascope.AsyncJobHandle),
        (mambascope.Analysis, mambascope.AsyncAnalysis),
    ):
        names = [{n for n in vars(kind) if not n.startswith("_")} for kind in (ours, other)]
        assert names[0] - {"close"} == names[1] - {"aclose"}
        for name in names[0] & names[1] - {"url"}:
            first, second = (inspect.signature(getattr(kind, name)) for kind in (ours, other))
            assert list(first.parameters) == list(second.parameters)


def test_every_field_of_a_request_has_its_name() -> None:
    assert {"texts", *RequestFields.__annotations__} == set(JobRequest.model_fields)
    for function in (Client.analyze, AsyncClient.submit):
        shown = inspect.signature(function).parameters
        assert set(JobRequest.model_fields) < set(shown)
        assert all(p.kind is not p.VAR_KEYWORD for p in shown.values())
        assert "fields" in typing.get_type_hints(function)


def test_import_is_light() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "from mambascope import Client\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"torch", "transformers", "numpy", "pandas", "matplotlib", "fastapi", "redis", "rq"}
    assert not heavy & set(loaded)
    assert "mambascope.progress" not in loaded
    assert "typer" not in loaded


def test_request_is_written_as_python_has_it() -> None:
    import numpy as np
    import pandas as pd

    section = AttentionSection(methods=[Method.ROLLOUT])
    assert body("a", {"models": "m", "layers": 1, "attention": section, "neurons": None}) == {
        "texts": ["a"],
        "models": ["m"],
        "layers": [1],
        "attention": {"methods": ["rollout"]},
        "neurons": None,
    }
    assert body(pd.Series(["a", "b"]), {"layers": np.arange(2)}) == {  # type: ignore[arg-type]
        "texts": ["a", "b"],
        "layers": [0, 1],
    }
    assert body(iter("ab"), {"layers": range(2), "seed": np.int64(3)}) == {  # type: ignore[typeddict-item]
        "texts": ["a", "b"],
        "layers": [0, 1],
        "seed": 3,
    }
    assert body(["a"], {"layers": "all"})["layers"] == "all"
    with pytest.raises(TypeError, match="nothing that JSON has"):
        body(["a"], {"metadata": {"a": object()}})  # type: ignore[dict-item]


def test_errors_name_the_field_and_survive_another_process() -> None:
    problem = Problem.of(
        ProblemType.INVALID_REQUEST,
        "First. And 2 more: see `errors`.",
        [
            FieldError(pointer="/perturbation/sets/0/found_by", detail="First."),
            FieldError(pointer="/metadata/a~1b", detail="Second."),
            FieldError(parameter="Idempotency-Key", detail="Third.\x1b"),
        ],
    )
    refused = errors.refusal(problem)
    assert str(refused).splitlines() == [
        "The request is not valid.",
        "  perturbation.sets[0].found_by: First.",
        "  metadata.a/b: Second.",
        "  Idempotency-Key: Third.\\x1b",
    ]
    job = finished_job("1", JobRequest(texts=["a"]))
    for error in (
        refused,
        errors.RateLimited(problem, 3.2),
        errors.JobFailed(job, problem),
        errors.JobCancelled(job),
        errors.ServiceFault("why"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


def test_types_are_shipped() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    data = declared["tool"]["setuptools"]["package-data"]
    for package in ("mambascope", "schemas"):
        assert "py.typed" in data[package]
        assert (ROOT / package / "py.typed").exists()
