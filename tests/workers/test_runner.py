"""The job boundary: a real runner, spoken to over its socket as the supervisor does."""

import signal
from collections.abc import Iterator

import pytest

from jobs import Attempt
from schemas.problem import ProblemType
from schemas.request import JobRequest
from tests.workers.conftest import Site, environment
from workers.channel import Message, attempts_from, attempts_message
from workers.processes import RunnerProcess, describe_end


@pytest.fixture
def runner(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunnerProcess]:
    for name, value in environment(site.settings).items():
        monkeypatch.setenv(name, value)
    runner = RunnerProcess.start("tests.workers.entries")
    assert runner.channel.receive(30) == {"event": "ready", "models": []}
    yield runner
    runner.reap()


def start(site: Site, **metadata: str) -> Attempt:
    job_id = site.jobs.store.create(JobRequest(texts=["a"], metadata=metadata))
    attempt = site.jobs.store.start(job_id, "test")
    assert attempt is not None
    return attempt


def done(*models: str) -> Message:
    return {"event": "done", "models": list(models), "unusable": False}


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("problem", ProblemType.TRACE_MISMATCH),
        ("bug", ProblemType.INTERNAL),
        ("leave", ProblemType.INTERNAL),
        ("memory", ProblemType.OUT_OF_MEMORY),
    ],
)
def test_failure_becomes_a_problem_and_the_runner_lives_on(
    site: Site, runner: RunnerProcess, behaviour: str, problem: ProblemType
) -> None:
    attempt = start(site, do=behaviour)
    runner.channel.send(attempts_message([attempt]))
    assert runner.channel.receive(30) == done()
    error = site.job(attempt.job_id).error
    assert error is not None
    assert error.type == problem.uri
    assert "secret detail" not in error.detail
    runner.channel.send(attempts_message([following := start(site)]))
    assert runner.channel.receive(30) == done("pocket/recall-mamba")
    assert site.job(following.job_id).status == "succeeded"


def test_of_several_attempts_each_ends_its_own_way(site: Site, runner: RunnerProcess) -> None:
    behaviours = ["succeed", "bug", "problem", "memory", "succeed"]
    attempts = [start(site, do=behaviour) for behaviour in behaviours]
    dropped = start(site)
    site.jobs.store.give_up(dropped.job_id, None, "the test wants it")
    runner.channel.send(attempts_message([dropped, *attempts]))
    assert runner.channel.receive(30) == done("pocket/recall-mamba")
    ended = [site.job(attempt.job_id).status for attempt in attempts]
    assert ended == ["succeeded", "failed", "failed", "failed", "succeeded"]
    assert site.job(dropped.job_id).status == "queued"


def test_stale_attempt_is_dropped(site: Site, runner: RunnerProcess) -> None:
    attempt = start(site)
    site.jobs.store.give_up(attempt.job_id, None, "the test wants it")
    runner.channel.send(attempts_message([attempt]))
    assert runner.channel.receive(30) == done("pocket/recall-mamba")
    assert site.job(attempt.job_id).status == "queued"


def test_runner_ends_with_its_channel(runner: RunnerProcess) -> None:
    runner.channel.close()
    assert runner.process.wait(30) == 0


def test_attempt_survives_its_message() -> None:
    request = JobRequest(texts=["é\n"], layers=[1, 0], seed=3, metadata={"a": "b"})
    attempts = [Attempt("0" * 26, "token", 2, request), Attempt("1" * 26, "other", 1, request)]
    assert attempts_from(attempts_message(attempts)) == attempts


def test_describe_end_names_signals_and_codes() -> None:
    assert describe_end(signal.SIGKILL) == "SIGKILL"
    assert describe_end(3 << 8) == "exit code 3"
    assert describe_end(40) == "signal 40"
