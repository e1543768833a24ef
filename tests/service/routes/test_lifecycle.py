"""Listing, cancelling, deleting, pinning and repeating over HTTP."""

import threading

import httpx
import pytest

from jobs import Jobs, Terms
from schemas.job import Job, JobList
from schemas.names import Departure
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.service.conftest import SUBMIT, finished, problem_of, started

JOBS = "/v1/jobs"
PATHS = ("", "/result", "/artifacts", "/artifacts/result.json")


def submit(client: httpx.Client, headers: dict[str, str] | None = None, **fields: object) -> Job:
    response = client.post(JOBS, json=SUBMIT | fields, headers=headers)
    assert response.status_code == 202, response.text
    return Job.model_validate(response.json())


def test_a_queued_job_is_cancelled_at_once(client: httpx.Client, jobs: Jobs) -> None:
    job = submit(client)
    response = client.post(job.links.cancel)
    assert response.status_code == 202
    cancelled = Job.model_validate(response.json())
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    assert client.post(job.links.cancel).json() == response.json()
    assert client.get(job.links.self).json() == response.json()
    assert jobs.indexes.queued() == []
    gone = problem_of(client.get(job.links.result), "job-failed")
    assert gone["detail"] == "The job was cancelled."


def test_a_running_job_is_cancelled(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    assert client.post(f"{JOBS}/{attempt.job_id}/cancel").json()["status"] == "cancelled"
    assert jobs.store.held([attempt]) == []


def test_what_has_ended_cannot_be_cancelled(client: httpx.Client, jobs: Jobs) -> None:
    response = client.post(f"{JOBS}/{finished(jobs)}/cancel")
    assert response.status_code == 409
    assert problem_of(response, "already-ended")["detail"] == "The job has succeeded."


def test_a_deleted_job_is_gone_on_every_path(client: httpx.Client, jobs: Jobs) -> None:
    job_id = finished(jobs)
    path = f"{JOBS}/{job_id}"
    assert client.get(f"{path}/artifacts/result.json").status_code == 200
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    for below in PATHS:
        answer = client.get(path + below)
        assert answer.status_code == 410
        assert "it was deleted" in str(problem_of(answer, "gone")["detail"])
    asked = (("DELETE", ""), ("POST", "/cancel"), ("PUT", "/pin"), ("DELETE", "/pin"))
    for method, below in asked:
        assert client.request(method, path + below).status_code == 410
    assert client.head(path).status_code == 410
    assert client.get(JOBS).json()["jobs"] == []


@pytest.mark.parametrize("why", Departure)
def test_a_job_that_is_gone_says_why(client: httpx.Client, jobs: Jobs, why: Departure) -> None:
    job_id = finished(jobs)
    jobs.remove(job_id, why)
    told = {"deleted": "deleted", "expired": "kept as long as", "evicted": "made room"}
    assert told[why] in str(problem_of(client.get(f"{JOBS}/{job_id}"), "gone")["detail"])


def test_jobs_of_others_are_not_there(client: httpx.Client, jobs: Jobs) -> None:
    theirs = jobs.submit(JobRequest(**SUBMIT), Terms(owner="you")).id
    gone = jobs.submit(JobRequest(**SUBMIT), Terms(owner="you")).id
    jobs.remove(gone, Departure.DELETED)
    for job_id in (theirs, gone, "0" * 26, "nonsense", "%00", "é"):
        for method, below in (
            *(("GET", path) for path in PATHS),
            *(("DELETE", ""), ("POST", "/cancel"), ("PUT", "/pin"), ("DELETE", "/pin")),
        ):
            response = client.request(method, f"{JOBS}/{job_id}{below}")
            assert response.status_code == 404, (method, below)
            problem_of(response, "not-found")
    assert client.get(JOBS).json()["jobs"] == []
    assert jobs.store.standing(theirs) is not None


def test_a_pinned_job_does_not_expire(client: httpx.Client, jobs: Jobs) -> None:
    path = f"{JOBS}/{finished(jobs)}"
    assert client.get(path).json()["expires_at"] is not None
    assert client.put(f"{path}/pin").status_code == client.put(f"{path}/pin").status_code == 204
    shown = client.get(path).json()
    assert (shown["pinned"], shown["expires_at"]) == (True, None)
    assert client.delete(f"{path}/pin").status_code == 204
    shown = client.get(path).json()
    assert shown["pinned"] is False
    assert shown["expires_at"] is not None


def test_pages(client: httpx.Client) -> None:
    ids = [submit(client, reuse=False).id for _ in range(5)]
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = JobList.model_validate(client.get(JOBS, params=query).json())
        seen += [job.id for job in page.jobs]
        if page.next_cursor is None:
            break
        query["cursor"] = page.next_cursor
    assert seen == ids[::-1]


def test_filters(client: httpx.Client) -> None:
    first, second = submit(client), submit(client, layers=[0])
    client.post(first.links.cancel)

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in client.get(JOBS, params=query).json()["jobs"]]

    assert ids(status="cancelled") == [first.id]
    assert ids(status="queued", model="tiny") == [second.id]
    assert ids(model="other") == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e3", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("model=", "model"),
        ("colour=red", "colour"),
        ("=", ""),
    ],
)
def test_bad_queries(client: httpx.Client, query: str, parameter: str) -> None:
    response = client.get(f"{JOBS}?{query}")
    assert response.status_code == 422
    problem = problem_of(response, "invalid-request")
    [error] = problem["errors"]
    assert error["parameter"] == parameter
    assert error["detail"]
    assert parameter in problem["detail"], "what is shown alone says which"


def test_a_request_sent_again_gives_the_same_job(client: httpx.Client, jobs: Jobs) -> None:
    key = {"Idempotency-Key": "5f0c"}
    first = client.post(JOBS, json=SUBMIT, headers=key)
    again = client.post(JOBS, json={**SUBMIT, "seed": 0}, headers=key)
    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(jobs.indexes.queued()) == 1
    other = client.post(JOBS, json=SUBMIT | {"seed": 1}, headers=key)
    assert other.status_code == 422
    [error] = problem_of(other, "idempotency-key-reused")["errors"]
    assert error["parameter"] == "Idempotency-Key"


def test_what_was_accepted_is_not_judged_again_by_what_has_changed(
    client: httpx.Client, settings: Settings
) -> None:
    key = {"Idempotency-Key": "before it went"}
    first = client.post(JOBS, json=SUBMIT, headers=key)
    assert settings.model_dir is not None
    place = settings.model_dir / "tiny"
    away = place.rename(settings.model_dir.parent / "away")
    try:
        again = client.post(JOBS, json=SUBMIT, headers=key)
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        other = client.post(JOBS, json=SUBMIT | {"seed": 1}, headers=key)
        problem_of(other, "idempotency-key-reused")
        assert client.post(JOBS, json=SUBMIT).status_code == 422
    finally:
        away.rename(place)


@pytest.mark.parametrize("key", ["", "a" * 256, "ü", "a\tb"])
def test_bad_idempotency_keys(client: httpx.Client, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    response = client.post(JOBS, json=SUBMIT, headers=headers)
    assert response.status_code == 422
    [error] = problem_of(response, "invalid-request")["errors"]
    assert error["parameter"] == "Idempotency-Key"


def test_a_refused_request_does_not_use_its_key_up(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "again"}
    assert client.post(JOBS, json=SUBMIT | {"layers": [99]}, headers=key).status_code == 422
    assert client.post(JOBS, json=SUBMIT, headers=key).status_code == 202


@pytest.mark.parametrize("why", Departure)
def test_a_key_whose_job_is_gone_asks_for_another(
    client: httpx.Client, jobs: Jobs, why: Departure
) -> None:
    key = {"Idempotency-Key": "once"}
    job_id = client.post(JOBS, json=SUBMIT, headers=key).json()["id"]
    jobs.remove(job_id, why)
    problem = problem_of(client.post(JOBS, json=SUBMIT, headers=key), "gone")
    assert job_id in str(problem["detail"])
    assert "deleted" not in str(problem["detail"])
    [error] = problem["errors"]
    assert (error["parameter"], "new key" in error["detail"]) == ("Idempotency-Key", True)
    assert client.post(JOBS, json=SUBMIT).status_code == 202


def test_equal_jobs_share_a_result(client: httpx.Client, jobs: Jobs) -> None:
    first = submit(client)
    second = submit(client, metadata={"who": "me"})
    assert second.reused_from == first.id
    attempt = jobs.store.start(first.id, "w")
    assert attempt is not None
    jobs.store.succeed(attempt, [])
    third = submit(client)
    assert (third.status, third.reused_from) == ("succeeded", first.id)
    assert client.get(second.links.self).json()["status"] == "succeeded"
    assert submit(client, reuse=False).reused_from is None
    assert submit(client, seed=1).reused_from is None


def test_cancelling_and_deleting_at_once_end_well(client: httpx.Client, jobs: Jobs) -> None:
    job = submit(client)
    answers: list[int] = []

    def ask(method: str, path: str) -> None:
        answers.append(client.request(method, path).status_code)

    asked = [("POST", job.links.cancel)] * 4 + [("DELETE", job.links.self)] * 4
    threads = [threading.Thread(target=ask, args=each) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {202, 204, 410}
    assert client.get(job.links.self).status_code == 410
    assert jobs.indexes.queued() == []
