"""The clients against the real thing: a service, a store and a worker with real models."""

import asyncio
import hashlib
import os
import pty
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mambascope import (
    Analysis,
    AsyncClient,
    Client,
    JobCancelled,
    JobFailed,
    JobGone,
    NotFound,
    RequestRefused,
    TensorsNotStored,
    TimedOut,
    Unreachable,
)
from mambascope.stack import Stack
from schemas.names import Method, Status
from schemas.sections import AttentionSection
from tests.mambascope.terminal import shown_until_closed
from tests.workers.conftest import ROOT, until

PROMPT = "apple 3 river 7 stone 1 river"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def puppets(puppet: Stack) -> Iterator[Client]:
    with Client(puppet.url) as client:
        yield client


@pytest.fixture(scope="module")
def analysis(client: Client) -> Analysis:
    methods = [Method.CONTRIBUTION, Method.ATTENTION_WEIGHTED]
    return client.analyze(
        PROMPT, layers="all", attention=AttentionSection(methods=methods), tensors=True
    )


def test_analysis_names_the_token_that_was_read(analysis: Analysis) -> None:
    assert analysis.text().target.token.token == "7"
    relevance = analysis.relevance(method="contribution")
    assert max(relevance, key=lambda pair: abs(pair[1]))[0] == "7"
    assert [token for token, _ in relevance] == PROMPT.split()
    assert analysis.relevance(layer=0)[0][1] != relevance[0][1]
    for wrong in ({"layer": 7}, {"method": "rollout"}, {"text": 3}, {"model": "other"}):
        with pytest.raises(
            LookupError, match=r"no text 3 .* texts 0 to 0|no text 0 of|not read|not asked"
        ):
            analysis.relevance(**wrong)  # type: ignore[arg-type]


def test_files_are_a_call_away(analysis: Analysis, tmp_path: Path) -> None:
    names = analysis.figures(section="attention", layer=1, method="contribution")
    assert names == ["attention_neurons_contribution_layer1.png"]
    assert len(analysis.figures()) > len(analysis.figures(section="neurons")) > 0
    figure = analysis.figure(names[0])
    assert figure.png.startswith(b"\x89PNG")
    assert figure._repr_png_() == figure.png
    assert figure.save(tmp_path).read_bytes() == figure.png
    assert len(repr(figure)) < 300
    with pytest.raises(NotFound, match=r"has no artifact `other\.png`"):
        analysis.figure("other.png")
    tensors = analysis.tensors()
    matrix = tensors["m0/t0/l1/attention_weighted/matrix"]
    assert (matrix.shape, matrix.dtype) == ((7, 7), np.float32)
    last = [value for _, value in analysis.relevance(method=Method.ATTENTION_WEIGHTED)]
    np.testing.assert_allclose(matrix[-1], last, rtol=1e-5)
    paths = analysis.save(tmp_path / "saved")
    assert len(paths) == len(analysis.artifacts)
    assert (tmp_path / "saved/images" / names[0]).read_bytes() == figure.png


def test_closed_client_says_so(stack: Stack) -> None:
    with Client(stack.url) as client:
        found = client.analyze("apple", attention=None, tensors=True)
    assert found.text().target.token.token
    with pytest.raises(Unreachable, match=r"The client is closed: ask .* inside its `with` block"):
        found.figure(found.figures()[0])


def test_archive_holds_every_file(analysis: Analysis, tmp_path: Path) -> None:
    with zipfile.ZipFile(analysis.archive(tmp_path / "all.zip")) as archive:
        held = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    assert held.issuperset(artifact.sha256 for artifact in analysis.artifacts)
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]


def test_refusal_says_what_is_wrong_in_python_words(client: Client) -> None:
    with pytest.raises(RequestRefused) as caught:
        client.analyze(["apple", "apple " * 5000], layers=[0, 9], figures=False)
    said = str(caught.value)
    assert said.startswith("The request is not valid.\n")
    assert "\n  layers[1]: `pocket/recall-mamba` has no layer 9" in said
    assert "\n  texts[1]: The text has 5000 tokens" in said
    assert {error.pointer for error in caught.value.errors} == {"/layers/1", "/texts/1"}
    with pytest.raises(RequestRefused, match=r"neurons\.top_k: Give a number of at least 1"):
        client.submit("apple", neurons={"top_k": 0})
    with pytest.raises(TypeError, match="no field `layer`: did you mean `layers`"):
        client.submit("apple", layer=[1])  # type: ignore[call-arg]


def test_catalogue(client: Client) -> None:
    assert client.health().status == "alive"
    assert "pocket/recall-gpt2" in [model.id for model in client.models().models]
    assert client.model("pocket/recall-mamba").layers[0].channels == 128
    with pytest.raises(NotFound):
        client.model("../../nowhere?x#y")


def test_job_without_tensors_says_how_to_have_them(client: Client) -> None:
    found = client.analyze("apple", figures=False, attention=None, neurons=None)
    with pytest.raises(TensorsNotStored, match="give tensors=True"):
        found.tensors()
    with pytest.raises(LookupError, match="has `attention` set to null"):
        found.relevance()
    assert found.figures() == []


def test_jobs_are_listed_kept_ended_and_removed(puppets: Client) -> None:
    ids = [puppets.submit("a", reuse=False).id for _ in range(3)]
    assert [puppets.job(job).wait(30).status for job in ids] == [Status.SUCCEEDED] * 3
    assert [job.id for job in puppets.jobs(status="succeeded", limit=2)] == ids[:0:-1]
    assert next(puppets.jobs()).id == ids[-1]
    assert list(puppets.jobs(model="none")) == []
    with pytest.raises(RequestRefused, match="status"):
        next(puppets.jobs(status="done"))
    job = puppets.job(ids[0])
    job.pin()
    assert job.status().pinned
    job.unpin()
    assert not job.status().pinned
    assert job.cancel().status == Status.SUCCEEDED
    job.delete()
    job.delete()
    with pytest.raises(JobGone):
        job.status()
    with pytest.raises(JobGone):
        list(job.events())
    with pytest.raises(NotFound):
        puppets.job("../jobs").status()


def test_waiting_ends_with_what_became_of_the_job(puppets: Client) -> None:
    with pytest.raises(JobFailed, match=r"failed\. The trace does not rebuild") as failed:
        puppets.analyze("a", metadata={"do": "problem"}, reuse=False)
    assert failed.value.problem.detail == "the rebuilt output is off by 0.5"
    assert failed.value.job.error == failed.value.problem
    job = puppets.submit("a", metadata={"do": "sleep"}, reuse=False)
    with pytest.raises(TimedOut, match=f"Job {job.id} has not ended within 0.3 s") as late:
        job.result(0.3)
    assert f"client.job('{job.id}').result()" in str(late.value)
    assert job.cancel().status == Status.CANCELLED
    with pytest.raises(JobCancelled):
        job.result(30)
    assert job.wait().status == Status.CANCELLED


def test_events_tell_a_job_to_its_end(puppets: Client) -> None:
    job = puppets.submit("a", reuse=False)
    *_, last = job.events()
    assert last.status == Status.SUCCEEDED


def test_equal_keys_are_one_job(puppets: Client) -> None:
    first, other = (puppets.submit("a", idempotency_key="k", reuse=False) for _ in range(2))
    assert first.id == other.id
    with pytest.raises(RequestRefused, match="Idempotency-Key: Use a new key"):
        puppets.submit("b", idempotency_key="k")
    first.delete()
    with pytest.raises(JobGone, match="under a new key"):
        puppets.submit("a", idempotency_key="k", reuse=False)


def test_many_at_once(stack: Stack) -> None:
    async def main() -> list[str]:
        async with AsyncClient(stack.url) as client:
            prompts = [f"apple {number} river 7 apple" for number in range(4)]
            asked = [client.analyze(prompt, figures=False) for prompt in prompts]
            found = await asyncio.gather(*asked)
            listed = [job.id async for job in client.jobs(limit=4)]
            assert set(listed) == {analysis.id for analysis in found}
            job = client.job(found[0].id)
            assert [event.status async for event in job.events()][-1] == Status.SUCCEEDED
            assert (await job.wait()).status == Status.SUCCEEDED
            return [analysis.text().target.token.token for analysis in found]

    assert asyncio.run(main()) == ["0", "1", "2", "3"]


SCRIPT = """
import sys
from mambascope import Client
client = Client(sys.argv[1])
client.analyze("a", metadata={"do": sys.argv[2]}, reuse=False, progress=sys.argv[3] == "yes")
"""


@pytest.mark.parametrize("progress", ["yes", "no"])
def test_terminal_gets_a_bar_unless_it_is_off(stack: Stack, progress: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, stack.url, "succeed", progress],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = shown_until_closed(ours)
    assert process.wait(30) == 0
    assert ("\u2501".encode() in shown) == (progress == "yes")
    assert progress == "yes" or shown == b""


def test_interrupt_leaves_the_job_and_says_its_id(puppet: Stack, puppets: Client) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, puppet.url, "sleep", "yes"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
        stderr=theirs,
    )
    os.close(theirs)
    (running,) = until(lambda: list(puppets.jobs(status="running")), "a running job")
    # Before it shows the job it may still read the answer that says the id.
    shown = b""
    while b"running" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    said = shown_until_closed(ours).decode()
    assert process.wait(30) != 0
    assert f"Job {running.id} goes on: client.job('{running.id}').result()" in said
    job = puppets.job(running.id)
    assert job.status().status == Status.RUNNING
    job.cancel()
