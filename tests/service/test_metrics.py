import httpx

from jobs import Jobs
from schemas.names import Departure, Method
from tests.service.conftest import finished, started


def value(text: str, line: str) -> float:
    [found] = [each for each in text.splitlines() if each.startswith(f"{line} ")]
    return float(found.rpartition(" ")[2])


def test_what_was_answered_is_counted_by_route(client: httpx.Client, jobs: Jobs) -> None:
    job_id = finished(jobs)
    line = 'mambascope_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"}'
    client.get(f"/v1/jobs/{job_id}")
    before = value(client.get("/metrics").text, line)
    client.get(f"/v1/jobs/{job_id}")
    text = client.get("/metrics").text
    assert value(text, line) == before + 1
    assert job_id not in text
    client.request("BREW", "/coffee/1")
    assert 'method="other",route="none",status="404"' in client.get("/metrics").text


def test_how_the_jobs_stand(client: httpx.Client, jobs: Jobs) -> None:
    finished(jobs)
    started(jobs)
    text = client.get("/metrics").text
    assert value(text, 'mambascope_jobs{state="ended"}') == 1
    assert value(text, 'mambascope_jobs{state="running"}') == 1
    assert value(text, 'mambascope_jobs{state="queued"}') == 0
    assert value(text, "mambascope_stored_bytes") > 100_000
    assert value(text, 'mambascope_workers{ready="true"}') == 0


def test_what_became_of_the_jobs_that_are_gone(client: httpx.Client, jobs: Jobs) -> None:
    line = 'mambascope_jobs_removed_total{why="%s"}'
    for count, why in enumerate(Departure, 1):
        assert value(client.get("/metrics").text, line % why) == 0
        for job_id in [finished(jobs) for _ in range(count)]:
            jobs.remove(job_id, why)
            assert not jobs.remove(job_id, why)
        assert value(client.get("/metrics").text, line % why) == count


def test_methods(client: httpx.Client) -> None:
    told = client.get("/v1/methods").json()["methods"]
    assert [method["name"] for method in told] == [method.value for method in Method]
    assert all(method["formula"] and method["citations"] for method in told)
