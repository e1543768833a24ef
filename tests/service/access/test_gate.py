"""Keys over real HTTP."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import SecretStr

from jobs import Jobs, Terms
from jobs.access.access_keys import AccessKeys
from jobs.access.key_text import new_key_text
from schemas.access import IssuedKey
from schemas.request import JobRequest
from schemas.settings import Settings
from service.access.gate import is_guarded
from service.app import create_app
from tests.service.conftest import SUBMIT, problem_of, serving
from tests.service.keys import bearer, make_key
from tests.service.test_server import Process, process

__all__ = ["process"]

PLAIN = 'Bearer realm="mambascope"'
WRONG = PLAIN + ', error="invalid_token", error_description="The key is not in force here"'
OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"}
# Longer than an answer of the store is relied on; as long as a revoked key may work.
PATIENCE = 5.0


@pytest.fixture
def key(jobs: Jobs, settings: Settings) -> IssuedKey:
    return make_key(jobs, settings)


@pytest.fixture
def guarded(key: IssuedKey, settings: Settings) -> Iterator[httpx.Client]:
    """A client, without a key, of a service that asks for one."""
    with serving(create_app(settings), settings) as client:
        yield client


def test_every_path_of_the_api_asks_for_a_key(
    guarded: httpx.Client, key: IssuedKey, settings: Settings
) -> None:
    asked = 0
    for route in create_app(settings).routes:
        path = re.sub(r"{[^}]*}", "x", getattr(route, "path", ""))
        if not is_guarded(path):
            assert path in OPEN
            continue
        for method in getattr(route, "methods", None) or {"GET"}:
            refused = guarded.request(method, path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, PLAIN)
            problem_of(refused, "unauthenticated")
            let_in = guarded.request(method, path, headers=bearer(key))
            assert let_in.status_code != 401
            asked += 1
    assert asked >= 12
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/jobs/", "/v1/%6Aobs"):
        assert guarded.get(path).status_code == 401


def test_what_is_no_api_stays_open(guarded: httpx.Client) -> None:
    for path in sorted(OPEN - {"/metrics", "/readyz"}):
        assert guarded.get(path).status_code in (200, 307)
    assert guarded.get("/readyz").status_code == 503
    assert guarded.get("/nothing").status_code == 404


def test_headers_that_hold_no_key(guarded: httpx.Client, key: IssuedKey) -> None:
    last = "0" if key.key[-1] != "0" else "1"
    for wrong in (
        *("", "Bearer", "Basic bWU6bWU=", "Basic " + key.key, key.key, "Bearer a b"),
        *("Bearer " + key.key[:-1] + last, "Bearer " + new_key_text(), "Bearer\t" + key.key),
        *("Bearer " + "x" * 5000, "Bearer \xe9", f"Bearer {key.key} {key.key}"),
    ):
        answer = guarded.get("/v1/models", headers={"Authorization": wrong.encode("latin-1")})
        assert answer.status_code == 401, wrong
        assert answer.headers["www-authenticate"] == WRONG
        assert answer.headers["cache-control"] == "no-store"
        problem = problem_of(answer, "unauthenticated")
        assert problem["errors"][0]["parameter"] == "Authorization"  # type: ignore[index]
        assert key.key not in answer.text
    twice = [("Authorization", f"Bearer {key.key}")] * 2
    assert guarded.get("/v1/models", headers=twice).status_code == 401


def test_the_scheme_is_read_as_http_says(guarded: httpx.Client, key: IssuedKey) -> None:
    for scheme in ("Bearer ", "bearer ", "BEARER  "):
        headers = {"Authorization": scheme + key.key}
        assert guarded.get("/v1/models", headers=headers).status_code == 200
    assert guarded.head("/v1/models", headers=bearer(key)).status_code == 200


def test_a_body_is_not_read_for_one_who_has_no_key(guarded: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", guarded.base_url.port or 0)) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_new_key_works_at_once_and_closes_the_door(jobs: Jobs, settings: Settings) -> None:
    with serving(create_app(settings), settings) as client:
        assert client.get("/v1/models", headers=bearer(new_key_text())).status_code == 200
        key = make_key(jobs, settings)
        made = time.monotonic()
        while client.get("/v1/models").status_code == 200:
            assert time.monotonic() - made < PATIENCE
            time.sleep(0.05)
        assert client.get("/v1/models", headers=bearer(key)).status_code == 200
        # Not even deleting all of them from the store opens it again.
        for held in jobs.redis.scan_iter(f"{settings.key_prefix}:access*"):
            jobs.redis.delete(held)
        gone = time.monotonic()
        while client.get("/v1/models", headers=bearer(key)).status_code == 200:
            assert time.monotonic() - gone < PATIENCE
            time.sleep(0.05)
        assert client.get("/v1/models").status_code == 401


def test_a_service_that_others_reach_lets_nobody_in_without_a_key(
    jobs: Jobs, settings: Settings
) -> None:
    # As on another address: the host says what to ask, the test reaches it over loopback.
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))
    with serving(app, settings) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=bearer(new_key_text())).status_code == 401
        key = make_key(jobs, settings)
        assert client.get("/v1/models", headers=bearer(key)).status_code == 200


def test_a_job_is_its_keys_alone(guarded: httpx.Client, jobs: Jobs, settings: Settings) -> None:
    mine, other = make_key(jobs, settings), make_key(jobs, settings)
    sent = guarded.post("/v1/jobs", json=SUBMIT, headers=bearer(mine))
    assert sent.status_code == 202
    path = sent.headers["Location"]
    paths = {
        (method, getattr(route, "path", "").replace("{job_id}", sent.json()["id"]))
        for route in create_app(settings).routes
        for method in getattr(route, "methods", None) or ()
        if "{job_id}" in getattr(route, "path", "")
    }
    assert len(paths) >= 8
    for method, each in sorted(paths):
        answer = guarded.request(method, each.replace("{name}", "x"), headers=bearer(other))
        assert answer.status_code == 404, (method, each)
        problem_of(answer, "not-found")
    assert guarded.get(path, headers=bearer(mine)).json()["status"] == "queued"
    assert guarded.get("/v1/jobs", headers=bearer(other)).json()["jobs"] == []
    assert len(guarded.get("/v1/jobs", headers=bearer(mine)).json()["jobs"]) == 1
    assert guarded.delete(path, headers=bearer(mine)).status_code == 204
    assert guarded.get(path, headers=bearer(mine)).status_code == 410
    assert guarded.get(path, headers=bearer(other)).status_code == 404


def test_jobs_of_before_the_first_key_are_nobodys(
    guarded: httpx.Client, key: IssuedKey, jobs: Jobs
) -> None:
    old = jobs.submit(JobRequest(**SUBMIT), Terms(owner="")).id
    assert guarded.get(f"/v1/jobs/{old}", headers=bearer(key)).status_code == 404


def test_a_limit_of_requests_is_told_and_kept(
    guarded: httpx.Client, jobs: Jobs, settings: Settings
) -> None:
    key = make_key(jobs, settings, requests_per_minute=3)
    for left in (2, 1, 0):
        answer = guarded.get("/v1/models", headers=bearer(key))
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert re.fullmatch(rf'"requests";r={left};t=\d+', answer.headers["ratelimit"])
    refused = guarded.get("/v1/models", headers=bearer(key))
    assert refused.status_code == 429
    problem_of(refused, "rate-limit")
    assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=60'
    wait = refused.headers["retry-after"]
    assert 0 < int(wait) <= 60
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={wait}'
    # Neither health nor who has no limit is touched by it.
    assert "ratelimit" not in guarded.get("/healthz", headers=bearer(key)).headers
    free = guarded.get("/v1/models", headers=bearer(make_key(jobs, settings)))
    assert free.status_code == 200
    assert not {"ratelimit", "ratelimit-policy"} & set(free.headers)


def test_concurrent_requests_to_two_processes_at_a_limit(
    guarded: httpx.Client, process: Process, jobs: Jobs, settings: Settings
) -> None:
    key = make_key(jobs, settings, requests_per_minute=10)
    other = httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=20)
    with other, ThreadPoolExecutor(20) as pool:
        asked = [
            pool.submit((guarded, other)[turn % 2].get, "/v1/models", headers=bearer(key))
            for turn in range(100)
        ]
        statuses = [one.result().status_code for one in asked]
    assert sorted(set(statuses)) == [200, 429]
    assert statuses.count(200) == 10


def test_a_limit_of_waiting_jobs(guarded: httpx.Client, jobs: Jobs, settings: Settings) -> None:
    key = make_key(jobs, settings, queued_jobs=2)
    for left in (1, 0):
        sent = guarded.post("/v1/jobs", json={**SUBMIT, "seed": left}, headers=bearer(key))
        assert sent.status_code == 202
        assert sent.headers["ratelimit-policy"] == '"queued-jobs";q=2;qu="jobs"'
        assert sent.headers["ratelimit"] == f'"queued-jobs";r={left}'
    refused = guarded.post("/v1/jobs", json={**SUBMIT, "seed": 9}, headers=bearer(key))
    assert refused.status_code == 429
    problem_of(refused, "queue-limit")
    assert refused.headers["ratelimit"] == '"queued-jobs";r=0'
    assert int(refused.headers["retry-after"]) > 0


def test_a_limit_of_tokens(guarded: httpx.Client, jobs: Jobs, settings: Settings) -> None:
    # "apple 3 river" is three tokens to the tiny model.
    key = make_key(jobs, settings, tokens_per_day=7, requests_per_minute=100)
    sizes = [
        guarded.post("/v1/jobs", json={**SUBMIT, "seed": n}, headers=bearer(key)) for n in "12"
    ]
    assert [sent.status_code for sent in sizes] == [422, 422]
    sent = [
        guarded.post("/v1/jobs", json={**SUBMIT, "seed": seed}, headers=bearer(key))
        for seed in range(3)
    ]
    assert [one.status_code for one in sent] == [202, 202, 429]
    assert '"tokens";q=7;qu="tokens";w=86400' in sent[0].headers["ratelimit-policy"]
    left = [re.search(r'"tokens";r=(\d+);t=\d+', one.headers["ratelimit"]) for one in sent]
    assert [one and one[1] for one in left] == ["4", "1", "1"]
    problem = problem_of(sent[2], "token-limit")
    assert "3 tokens" in str(problem["detail"])
    assert 0 < int(sent[2].headers["retry-after"]) <= 86400
    # An equal job shares what was paid for.
    again = guarded.post("/v1/jobs", json={**SUBMIT, "seed": 0}, headers=bearer(key))
    assert again.status_code == 202
    assert again.json()["reused_from"] == sent[0].json()["id"]
    # One that no day would do for is wrong, and not only too early.
    long = {**SUBMIT, "texts": ["apple 3 river", "apple 3", "apple 3 river"]}
    refused = guarded.post("/v1/jobs", json=long, headers=bearer(key))
    assert refused.status_code == 422
    assert problem_of(refused, "invalid-request")["errors"][0]["pointer"] == "/texts"  # type: ignore[index]


def streaming_app(settings: Settings) -> FastAPI:
    app = create_app(settings)

    @app.get("/v1/stream")
    async def stream() -> StreamingResponse:
        async def ticks() -> Iterator[bytes]:  # type: ignore[misc]
            while True:
                yield b"tick"
                await asyncio.sleep(0.1)

        return StreamingResponse(ticks())  # type: ignore[arg-type]

    @app.get("/v1/late")
    async def late() -> str:
        await asyncio.sleep(4)
        return "a secret"

    return app


def test_a_revoked_key_ends_within_seconds_and_what_goes_on_with_it(
    key: IssuedKey, jobs: Jobs, settings: Settings
) -> None:
    with serving(streaming_app(settings), settings) as client, ThreadPoolExecutor() as pool:
        late = pool.submit(client.get, "/v1/late", headers=bearer(key))
        with client.stream("GET", "/v1/stream", headers=bearer(key)) as answer:
            ticks = answer.iter_bytes()
            assert next(ticks) == b"tick"
            AccessKeys(jobs.redis, settings).revoke(key.about.id)
            revoked = time.monotonic()
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in ticks:
                    assert time.monotonic() - revoked < PATIENCE
        assert client.get("/v1/models", headers=bearer(key)).status_code == 401
        # Nor does the last key's end open the door.
        assert client.get("/v1/models").status_code == 401
        assert late.result().status_code == 401
        assert "a secret" not in late.result().text


def test_the_log_tells_keys_by_their_ids_alone(process: Process, key: IssuedKey) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{process.port}") as client:
        assert client.get("/v1/models", headers=bearer(key)).status_code == 200
        assert client.get("/v1/models", headers=bearer(new_key_text())).status_code == 401
    lines = [line for line in process.stop() if line["event"] == "request"]
    assert [(line["status"], line.get("key")) for line in lines] == [
        (200, key.about.id),
        (401, None),
    ]
    assert "msk_" not in str(lines)


def test_a_store_that_is_down_lets_nobody_in(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with serving(create_app(away), settings) as client:
        answer = client.get("/v1/models")
        assert answer.status_code == 503
        problem_of(answer, "unavailable")
