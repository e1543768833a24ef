import httpx
import pytest

from jobs import Jobs
from schemas.job import Job, Progress
from schemas.names import Stage, Status
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest
from tests.service.conftest import SUBMIT, finished, problem_of, started


def test_a_job_is_shown_as_it_stands(client: httpx.Client, jobs: Jobs) -> None:
    first, second = (jobs.submit(JobRequest(**SUBMIT)).job for _ in range(2))
    assert first is not None and second is not None
    response = client.get(second.links.self)
    assert response.status_code == 200
    assert Job.model_validate(response.json()) == second
    assert second.queue_position == 1
    attempt = jobs.store.start(first.id, "worker-1")
    assert attempt is not None
    jobs.store.progress(attempt, Progress(fraction=0.5, stage=Stage.TRACING, detail="layer 1"))
    running = Job.model_validate(client.get(first.links.self).json())
    assert running.status is Status.RUNNING
    assert running.progress == Progress(fraction=0.5, stage=Stage.TRACING, detail="layer 1")
    assert client.get(second.links.self).json()["queue_position"] == 0


def test_only_a_job_that_goes_on_says_when_to_ask_again(client: httpx.Client, jobs: Jobs) -> None:
    going = client.get(f"/v1/jobs/{started(jobs).job_id}")
    ended = client.get(f"/v1/jobs/{finished(jobs)}")
    assert going.headers["retry-after"] == "1"
    assert "retry-after" not in ended.headers
    assert going.headers["cache-control"] == ended.headers["cache-control"] == "no-store"


def test_a_failed_job_shows_its_problem(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    problem = Problem.of(ProblemType.TIME_LIMIT, "It ran for 1800 s.")
    jobs.store.fail(attempt, problem)
    shown = client.get(f"/v1/jobs/{attempt.job_id}").json()
    assert shown["status"] == "failed"
    assert Problem.model_validate(shown["error"]) == problem


@pytest.mark.parametrize("job_id", ["0" * 26, "x", "..", "%00", "0" * 5000, "*", "%F0%9F%90%8D"])
def test_unknown_ids_are_not_found(client: httpx.Client, job_id: str) -> None:
    for path in ("", "/result", "/artifacts", "/artifacts/result.json"):
        response = client.get(f"/v1/jobs/{job_id}{path}")
        assert response.status_code == 404
        problem_of(response, "not-found")


def test_head_is_get_without_the_body(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{finished(jobs)}"
    got, head = client.get(path), client.head(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]
    assert client.get(path).content == got.content
