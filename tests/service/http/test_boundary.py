import re

import httpx
from fastapi import FastAPI

from schemas.settings import Settings
from service.app import create_app
from tests.service.conftest import problem_of, serving


def test_request_ids_come_in_and_go_out(client: httpx.Client) -> None:
    given = client.get("/healthz", headers={"X-Request-Id": "mine-1.a_b"})
    assert given.headers["x-request-id"] == "mine-1.a_b"
    made = [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


def test_an_id_that_could_forge_a_log_line_is_replaced(client: httpx.Client) -> None:
    for bad in ("a b", "x" * 129, '"}', ""):
        answer = client.get("/healthz", headers={"X-Request-Id": bad})
        assert answer.headers["x-request-id"] != bad


def test_paths_that_do_not_exist_are_problems(client: httpx.Client) -> None:
    for path in ("/nope", "/v1", "/v1/jobs/", "/docs/", "/static/../etc", "/v2/jobs"):
        response = client.get(path)
        assert response.status_code == 404
        problem_of(response, "not-found")


def test_a_wrong_method_names_the_right_ones(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("PATCH", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/v1/jobs/x", "DELETE, GET, HEAD"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PATCH", "/openapi.json", "GET, HEAD"),
    ):
        response = client.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == allowed
        assert allowed in str(problem_of(response, "method-not-allowed")["detail"])


def broken_app(settings: Settings) -> FastAPI:
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("a secret of the inside")

    return app


def test_a_bug_is_a_problem_that_shows_nothing_of_the_inside(settings: Settings) -> None:
    with serving(broken_app(settings), settings) as client:
        response = client.get("/broken", headers={"X-Request-Id": "find-me"})
        assert response.status_code == 500
        assert "find-me" in str(problem_of(response, "internal")["detail"])
        assert "secret" not in response.text
        assert "ZeroDivision" not in response.text
        assert client.get("/healthz").status_code == 200
