from collections.abc import Iterator

import httpx
import pytest

from jobs import Jobs
from schemas.settings import Settings
from tests.service.conftest import RESULT, finished, problem_of, serving
from tests.service.http.test_boundary import broken_app

PAGE = "https://studio.example"


@pytest.fixture(scope="module")
def open_to(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a service that lets one page in."""
    allowing = settings.model_copy(update={"cors_origins": (f"{PAGE}/", "http://localhost:5173")})
    with serving(broken_app(allowing), allowing) as found:
        yield found


def preflight(client: httpx.Client, origin: str, method: str = "POST") -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    return client.options("/v1/jobs", headers=asked)


def cors_headers(response: httpx.Response) -> list[str]:
    return [name for name in response.headers if name.startswith("access-control")]


def test_a_browser_that_asks_is_told_what_a_page_may_do(open_to: httpx.Client) -> None:
    response = preflight(open_to, PAGE)
    assert response.status_code == 204
    assert response.content == b""
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["vary"] == "Origin"
    assert response.headers["x-request-id"]
    assert "access-control-allow-credentials" not in response.headers
    methods = response.headers["access-control-allow-methods"].split(", ")
    assert {"GET", "POST", "DELETE"} <= set(methods)
    allowed = response.headers["access-control-allow-headers"].lower().split(", ")
    assert {
        *("authorization", "idempotency-key", "last-event-id", "if-none-match", "range"),
        "content-type",
    } <= set(allowed)


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil.example", "null", ""])
def test_other_pages_are_let_in_nowhere(open_to: httpx.Client, jobs: Jobs, origin: str) -> None:
    response = preflight(open_to, origin)
    problem_of(response, "method-not-allowed")
    got = open_to.get(f"/v1/jobs/{finished(jobs)}", headers={"Origin": origin})
    assert got.status_code == 200
    for answer in (response, got):
        assert cors_headers(answer) == []
        assert "Origin" in answer.headers["vary"]


def test_every_answer_can_be_read_by_the_page(open_to: httpx.Client, jobs: Jobs) -> None:
    job_id = finished(jobs)
    origin = {"Origin": PAGE}
    answers = [
        (open_to.get(f"/v1/jobs/{job_id}/result", headers=origin), 200),
        (open_to.get(f"/v1/jobs/{job_id}/archive", headers=origin | {"Range": "bytes=0-4"}), 206),
        (open_to.get("/v1/jobs/none", headers=origin), 404),
        (open_to.post("/v1/jobs", json={}, headers=origin), 422),
        (open_to.options("/v1/jobs", headers=origin), 405),
        (open_to.get("/broken", headers=origin), 500),
    ]
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in answer.headers["vary"]
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {
            *("etag", "location", "retry-after", "ratelimit", "ratelimit-policy", "link"),
            *("content-range", "repr-digest", "x-request-id", "deprecation", "sunset"),
            *("accept-ranges", "allow", "idempotency-replayed", "www-authenticate"),
        } <= set(exposed)
    assert answers[0][0].content == RESULT


def test_pages_may_read_every_header_that_is_documented(open_to: httpx.Client) -> None:
    paths = open_to.get("/openapi.json").json()["paths"]
    operations = [operation for verbs in paths.values() for operation in verbs.values()]
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    documented = {name.lower() for answer in answers for name in answer.get("headers", ())}
    exposed = open_to.get("/healthz", headers={"Origin": PAGE}).headers[
        "access-control-expose-headers"
    ]
    always = {"cache-control", "content-language", "content-type", "content-length"}
    assert documented - always - set(exposed.lower().split(", ")) == set()


def test_without_an_origin_caches_still_learn_that_it_counts(open_to: httpx.Client) -> None:
    response = open_to.get("/healthz")
    assert response.headers.get_list("vary", split_commas=True) == ["Accept-Encoding", "Origin"]
    assert cors_headers(response) == []


def test_a_service_may_be_open_to_all(settings: Settings) -> None:
    allowing = settings.model_copy(update={"cors_origins": ("*",)})
    with serving(broken_app(allowing), allowing) as client:
        assert preflight(client, PAGE).headers["access-control-allow-origin"] == "*"
        response = client.get("/broken", headers={"Origin": "null"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "vary" not in response.headers


def test_by_default_no_page_is_let_in(client: httpx.Client) -> None:
    response = client.get("/healthz", headers={"Origin": PAGE})
    assert cors_headers(response) == []
    assert response.headers["vary"] == "Accept-Encoding"
    problem_of(preflight(client, PAGE), "method-not-allowed")
