import threading
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from jobs import Jobs
from schemas.job import Progress
from schemas.names import Departure
from schemas.request import JobRequest
from schemas.settings import Settings
from service.app import create_app
from tests.service.conftest import SUBMIT, finished, problem_of, serving, started


def later(act: Callable[[], object]) -> threading.Thread:
    """Do something in a moment, when a question that is asked now is already waiting."""

    def run() -> None:
        time.sleep(0.3)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_state_that_the_client_has_is_not_sent_again(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    path = f"/v1/jobs/{attempt.job_id}"
    tag = client.get(path).headers["etag"]
    assert tag.startswith('W/"')
    for named in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        answer = client.get(path, headers={"If-None-Match": named})
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["etag"] == tag
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["cache-control"] == "no-store"
    jobs.store.progress(attempt, Progress(fraction=0.5))
    changed = client.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    jobs.store.succeed(attempt, [])
    last = client.get(path).headers["etag"]
    ended = client.get(path, headers={"If-None-Match": last})
    assert ended.status_code == 304
    assert "retry-after" not in ended.headers


def test_a_place_in_the_queue_is_part_of_the_state(client: httpx.Client, jobs: Jobs) -> None:
    first, second = (jobs.submit(JobRequest(**SUBMIT, reuse=False)).id for _ in range(2))
    tag = client.get(f"/v1/jobs/{second}").headers["etag"]
    assert jobs.store.start(first, "worker-1") is not None
    answer = client.get(f"/v1/jobs/{second}", headers={"If-None-Match": tag})
    assert answer.json()["queue_position"] == 0


def test_a_long_poll_is_answered_by_the_change(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    path = f"/v1/jobs/{attempt.job_id}"
    tag = client.get(path).headers["etag"]
    acting = later(lambda: jobs.store.progress(attempt, Progress(fraction=0.25)))
    answer = client.get(path, params={"wait": 10}, headers={"If-None-Match": tag})
    acting.join()
    assert answer.status_code == 200
    assert answer.json()["progress"]["fraction"] == 0.25
    acting = later(lambda: jobs.store.succeed(attempt, []))
    assert client.get(path, params={"wait": "10.5"}).json()["status"] == "succeeded"
    acting.join()


def test_a_long_poll_is_answered_by_a_pin(client: httpx.Client, jobs: Jobs) -> None:
    """Each in less than its wait, which would be more than the client waits for."""
    job_id = started(jobs).job_id
    for pinned in (True, False):
        acting = later(partial(jobs.store.pin, job_id, pinned))
        answer = client.get(f"/v1/jobs/{job_id}", params={"wait": 60})
        acting.join()
        assert answer.json()["pinned"] is pinned


def test_a_long_poll_of_a_queued_job_sees_its_place_change(
    client: httpx.Client, jobs: Jobs
) -> None:
    first, second = (jobs.submit(JobRequest(**SUBMIT, reuse=False)).id for _ in range(2))
    acting = later(lambda: jobs.store.start(first, "worker-1"))
    answer = client.get(f"/v1/jobs/{second}", params={"wait": 60})
    acting.join()
    assert answer.json()["queue_position"] == 0


def test_what_is_known_already_is_answered_at_once(client: httpx.Client, jobs: Jobs) -> None:
    """All of it in less than one of the waits, which would be more than the client waits for."""
    attempt, long = started(jobs), {"wait": 60}
    ended = f"/v1/jobs/{finished(jobs)}"
    other = client.get(f"/v1/jobs/{attempt.job_id}", params=long, headers={"If-None-Match": '"0"'})
    assert other.status_code == 200
    tag = client.get(ended, params=long).headers["etag"]
    assert client.get(ended, params=long, headers={"If-None-Match": tag}).status_code == 304


def test_a_wait_that_is_over(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{started(jobs).job_id}"
    plain = client.get(path, params={"wait": "0.1"})
    assert plain.status_code == 200
    headers = {"If-None-Match": plain.headers["etag"]}
    assert client.get(path, params={"wait": "0.1"}, headers=headers).status_code == 304
    assert client.get(path, params={"wait": 0}, headers=headers).status_code == 304


def test_nobody_waits_longer_than_the_service_lets_them(settings: Settings, jobs: Jobs) -> None:
    hasty = settings.model_copy(update={"max_wait": 0})
    path = f"/v1/jobs/{started(jobs).job_id}"
    with serving(create_app(hasty), hasty) as client:
        for wait in ("61", "1e9", "9" * 400):
            assert client.get(path, params={"wait": wait}).status_code == 200


def test_a_job_that_is_deleted_while_somebody_waits(client: httpx.Client, jobs: Jobs) -> None:
    job_id = started(jobs).job_id
    acting = later(lambda: jobs.remove(job_id, Departure.DELETED))
    problem_of(client.get(f"/v1/jobs/{job_id}", params={"wait": 10}), "gone")
    acting.join()


@pytest.mark.parametrize("wrong", ["-1", "x", "", "1e", "inf", "nan", "1.", "1_0", "9" * 500])
def test_waits_that_are_none(client: httpx.Client, jobs: Jobs, wrong: str) -> None:
    answer = client.get(f"/v1/jobs/{started(jobs).job_id}", params={"wait": wrong})
    assert answer.status_code == 422
    [error] = problem_of(answer, "invalid-request")["errors"]
    assert error["parameter"] == "wait"


def test_one_wait_is_enough(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{started(jobs).job_id}"
    assert client.get(f"{path}?wait=1&wait=2").status_code == 422
    assert client.get(f"{path}?watch=1").status_code == 422
