"""Progress as it reaches the job's record."""

import pytest

from jobs import Attempt, Jobs
from schemas.job import Progress
from schemas.names import Stage
from schemas.request import JobRequest
from workers.progress import Report


def started(jobs: Jobs, **fields: object) -> Attempt:
    request = JobRequest.model_validate({"texts": ["a"], **fields})
    attempt = jobs.store.start(jobs.store.create(request), "w")
    assert attempt is not None
    return attempt


def told(jobs: Jobs, attempt: Attempt) -> Progress:
    job = jobs.store.get(attempt.job_id)
    assert job is not None
    return job.progress


@pytest.mark.parametrize("fields", [{}, {"figures": False}, {"attention": None}])
def test_all_stages_done_is_all_done(jobs: Jobs, fields: dict[str, object]) -> None:
    attempt = started(jobs, **fields)
    report = Report(jobs.store, attempt)
    for stage in Stage:
        report.tell(stage, 1.0)
    assert told(jobs, attempt).fraction == pytest.approx(1.0)


def test_a_new_stage_is_told_at_once_and_its_details_now_and_then(jobs: Jobs) -> None:
    attempt = started(jobs)
    report = Report(jobs.store, attempt)
    report.tell(Stage.LOADING, 1.0, "a model")
    report.tell(Stage.TRACING, 0.0, "first")
    report.tell(Stage.TRACING, 0.5, "second")
    assert told(jobs, attempt).stage is Stage.TRACING
    assert told(jobs, attempt).detail == "first"
    assert told(jobs, attempt).fraction == pytest.approx(0.15)


def test_more_than_all_is_all(jobs: Jobs) -> None:
    attempt = started(jobs)
    Report(jobs.store, attempt).tell(Stage.ANALYSING, 1.5)
    assert told(jobs, attempt).fraction == pytest.approx(0.35)


def test_seconds_add_up_by_stage_also_when_a_stage_fails(jobs: Jobs) -> None:
    report = Report(jobs.store, started(jobs))
    with report.timed(Stage.TRACING):
        pass
    first = report.seconds[Stage.TRACING]
    with pytest.raises(ValueError, match="no"), report.timed(Stage.TRACING):
        raise ValueError("no")
    assert report.seconds[Stage.TRACING] > first
    assert list(report.seconds) == [Stage.TRACING]
