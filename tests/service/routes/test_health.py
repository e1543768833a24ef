from concurrent.futures import ThreadPoolExecutor

import httpx
from pydantic import SecretStr

from jobs import Jobs
from schemas.settings import Settings
from service.app import create_app
from tests.service.conftest import SUBMIT, problem_of, serving


def test_it_is_alive(client: httpx.Client) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json()["status"] == "alive"


def missing(response: httpx.Response) -> list[tuple[str, str]]:
    assert response.status_code == 503
    errors = problem_of(response, "unavailable")["errors"]
    return [(error["pointer"], error["detail"]) for error in errors]


def test_it_is_ready_only_with_a_ready_worker(client: httpx.Client, jobs: Jobs) -> None:
    [(pointer, detail)] = missing(client.get("/readyz"))
    assert pointer == "/workers"
    assert "mambascope worker" in detail
    jobs.presence.announce("one", ready=False, models=[], pid=1)
    [(_, detail)] = missing(client.get("/readyz"))
    assert "1 alive, none ready yet" in detail
    jobs.presence.announce("two", ready=True, models=[], pid=2)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "store": "answers", "workers": 1}


def test_without_a_store_every_route_says_so_and_the_process_lives(settings: Settings) -> None:
    gone = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    job = f"/v1/jobs/{'0' * 26}"
    with serving(create_app(gone), gone) as client, ThreadPoolExecutor() as pool:
        answers = [
            pool.submit(client.post, "/v1/jobs", json=SUBMIT),
            *(pool.submit(client.get, job + rest) for rest in ("", "/result", "/artifacts")),
        ]
        ready = pool.submit(client.get, "/readyz")
        assert client.get("/healthz").status_code == 200
        for answer in answers:
            response = answer.result()
            assert response.status_code == 503
            assert response.headers["retry-after"] == "5"
            problem_of(response, "unavailable")
        assert missing(ready.result())[0][0] == "/store"
