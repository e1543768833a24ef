"""POST /v1/jobs: what is taken, and every way in which something is not."""

import json
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from jobs import Jobs
from schemas.job import Job
from schemas.problem import ProblemType
from schemas.settings import Settings
from service.app import create_app
from tests.service.conftest import BODY_LIMIT, SUBMIT, problem_of, serving

JSON = {"Content-Type": "application/json"}


def test_a_job_is_accepted_recorded_and_queued(client: httpx.Client, jobs: Jobs) -> None:
    response = client.post("/v1/jobs", json=SUBMIT)
    assert response.status_code == 202
    job = Job.model_validate(response.json())
    assert response.headers["location"] == job.links.self == f"/v1/jobs/{job.id}"
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"
    assert jobs.store.get(job.id) == job
    assert jobs.queue.rq.count == 1


def test_text_comes_through_unchanged(client: httpx.Client, jobs: Jobs) -> None:
    text = 'apple \N{SNAKE} "\\ \u2028 é\x00 river'
    job = client.post("/v1/jobs", json={**SUBMIT, "texts": [text]}).json()
    assert job["request"]["texts"] == [text]
    found = jobs.store.get(job["id"])
    assert found is not None
    assert found.request.texts == [text]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"]
)
def test_every_json_media_type_is_json(client: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind}
    assert client.post("/v1/jobs", content=json.dumps(SUBMIT), headers=headers).status_code == 202


def nothing_was_enqueued(jobs: Jobs) -> bool:
    return jobs.indexes.queued() == [] and jobs.queue.rq.count == 0


# Fields laid over a good request, the pointer of the fault, and words of its mend.
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"texts": []}, "/texts", "at least 1"),
    ({"texts": [""]}, "/texts/0", "at least 1 character"),
    ({"texts": ["apple", " \t\n"]}, "/texts/1", "at least one word"),
    ({"texts": "apple"}, "/texts", "a list"),
    ({"texts": ["apple", 7]}, "/texts/1", "a string"),
    ({"texts": ["7 " * 51]}, "/texts/0", "at most 50"),
    ({"texts": ["7 " * 5], "models": ["owner/short"]}, "/texts/0", "at most 4"),
    ({"texts": ["7"] * 65}, "/texts", "at most 64"),
    ({"models": ["nobody/here"]}, "/models/0", "owner/short, tiny"),
    ({"models": ["../tiny"]}, "/models/0", "owner/name"),
    ({"models": ["tiny", "tiny"]}, "/models", "once"),
    ({"models": []}, "/models", "at least 1"),
    ({"layers": [0, 3]}, "/layers/1", "0 to 2"),
    ({"layers": [-1]}, "/layers/0", "at least 0"),
    ({"layers": [1.5]}, "/layers/0", "whole number"),
    ({"layers": []}, "/layers", "at least one layer"),
    ({"layers": [1, 1]}, "/layers", "once"),
    ({"layers": "most"}, "/layers", "Layer indices, `all`, or null"),
    ({"attention": {"methods": ["guess"]}}, "/attention/methods/0", "rollout, contribution"),
    ({"attention": {"methods": []}}, "/attention/methods", "at least 1"),
    ({"attention": {"rows": "x"}}, "/attention/rows", "target, all"),
    ({"attention": {"rollout_clamp": "x"}}, "/attention/rollout_clamp", "true or false"),
    ({"target": {"position": 3}}, "/target/position", "-3 to 2"),
    ({"target": {"position": -4}}, "/target/position", "-3 to 2"),
    ({"target": {"position": "last"}}, "/target/position", "whole number"),
    ({"target": {"token": "apple 7"}}, "/target/token", "2 tokens"),
    ({"target": {"token": "unheard"}}, "/target/token", "vocabulary"),
    ({"target": {"contrast": ""}}, "/target/contrast", "at least 1"),
    ({"neurons": {"top_k": -1}}, "/neurons/top_k", "at least 1"),
    ({"neurons": {"top_k": 1001}}, "/neurons/top_k", "at most 1000"),
    ({"neurons": {"ngram": 9}}, "/neurons/ngram", "at most 8"),
    ({"neurons": {"blocks": ["mixer", "head"]}}, "/neurons/blocks/1", "mixer, mlp"),
    ({"neurons": {"active_above": -1}}, "/neurons/active_above", "at least 0"),
    ({"neurons": 3}, "/neurons", "an object"),
    ({"attention": {"layers": [1, 1]}}, "/attention/layers", "once"),
    ({"attention": {"layers": [0, 7]}}, "/attention/layers/1", "0 to 2"),
    ({"knowledge_neurons": {"facts": []}}, "/knowledge_neurons/facts", "at least 1"),
    (
        {"knowledge_neurons": {"facts": [{"prompt": "apple"}]}},
        "/knowledge_neurons/facts/0/answer",
        "required",
    ),
    (
        {"knowledge_neurons": {"facts": [{"prompt": "apple", "answer": "3", "hint": 1}]}},
        "/knowledge_neurons/facts/0/hint",
        "prompt, answer, paraphrases",
    ),
    (
        {"perturbation": {"sets": [{"found_by": "luck"}]}},
        "/perturbation/sets/0/found_by",
        "attribution, attention_weighted",
    ),
    ({"perturbation": {"sets": [{}]}}, "/perturbation/sets/0", "either `neurons` or `found_by`"),
    (
        {"perturbation": {"sets": [{"neurons": [{"layer": 0, "neuron": -1}]}]}},
        "/perturbation/sets/0/neurons/0/neuron",
        "at least 0",
    ),
    ({"universality": {"max_tokens": 3}}, "/universality/max_tokens", "at least 16"),
    ({"seed": -1}, "/seed", "at least 0"),
    ({"seed": 2**32}, "/seed", "below 4294967296"),
    ({"seed": True}, "/seed", "whole number"),
    ({"figures": "yes"}, "/figures", "true or false"),
    ({"metadata": {"a/b": 1}}, "/metadata/a~1b", "a string"),
    ({"text": "apple"}, "/text", "Did you mean `texts`?"),
    ({"target": {"pos": 1}}, "/target/pos", "position, token, contrast"),
]


@pytest.mark.parametrize(("fields", "pointer", "words"), FAULTS)
def test_a_fault_is_named_with_its_mend_and_nothing_is_enqueued(
    client: httpx.Client, jobs: Jobs, fields: dict[str, Any], pointer: str, words: str
) -> None:
    response = client.post("/v1/jobs", json={**SUBMIT, **fields})
    assert response.status_code == 422
    [error] = problem_of(response, "invalid-request")["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]
    assert nothing_was_enqueued(jobs)


def test_every_fault_is_named_at_once(client: httpx.Client) -> None:
    response = client.post("/v1/jobs", json={"seed": -1, "layers": [-1], "colour": 1})
    errors = problem_of(response, "invalid-request")["errors"]
    assert {error["pointer"] for error in errors} == {"/texts", "/seed", "/layers/0", "/colour"}


NOT_JSON = [
    (b"", 400, "malformed-json", "empty"),
    (b"{", 400, "malformed-json", "line 1, column 2"),
    (b"{'texts': ['apple']}", 400, "malformed-json", "line 1"),
    (b"\xff\xfe{}", 400, "malformed-json", "UTF-8"),
    (b'{"a":' * 3_000, 400, "malformed-json", "nested"),
    (b'{"texts": ["apple"], "seed": NaN}', 400, "malformed-json", "/seed"),
    (b'{"texts": ["apple"], "seed": -Infinity}', 400, "malformed-json", "/seed"),
    (b'{"texts": ["apple"], "texts": ["river"]}', 422, "invalid-request", "/texts"),
    (b'{"texts": ["\\ud800"]}', 422, "invalid-request", "/texts/0"),
    (b'{"texts": ["apple"], "seed": ' + b"9" * 5_000 + b"}", 422, "invalid-request", "/seed"),
    (b'["apple"]', 422, "invalid-request", "object"),
    (b"null", 422, "invalid-request", "object"),
]


@pytest.mark.parametrize(("body", "status", "slug", "words"), NOT_JSON)
def test_what_is_no_json_object_is_refused(
    client: httpx.Client, jobs: Jobs, body: bytes, status: int, slug: str, words: str
) -> None:
    response = client.post("/v1/jobs", content=body, headers=JSON)
    assert response.status_code == status
    assert words in str(problem_of(response, slug)["detail"])
    assert nothing_was_enqueued(jobs)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_only_plain_json_is_read(client: httpx.Client, jobs: Jobs, headers: dict[str, str]) -> None:
    response = client.post("/v1/jobs", content=json.dumps(SUBMIT).encode(), headers=headers)
    assert response.status_code == 415
    problem_of(response, "unsupported-media-type")
    assert nothing_was_enqueued(jobs)


def padded(size: int) -> bytes:
    """A good request of exactly `size` bytes."""
    body = json.dumps(SUBMIT).encode()
    return body + b" " * (size - len(body))


def pieces(body: bytes) -> Iterator[bytes]:
    """Without a length the body is sent in chunks."""
    yield from (body[at : at + 4096] for at in range(0, len(body), 4096))


def test_a_body_at_the_limit_is_taken(client: httpx.Client) -> None:
    body = padded(BODY_LIMIT)
    assert client.post("/v1/jobs", content=body, headers=JSON).status_code == 202
    assert client.post("/v1/jobs", content=pieces(body), headers=JSON).status_code == 202


def test_a_body_over_the_limit_is_refused_with_or_without_a_length(
    client: httpx.Client, jobs: Jobs
) -> None:
    for size in (BODY_LIMIT + 1, BODY_LIMIT * 50):
        for content in (padded(size), pieces(padded(size))):
            response = client.post("/v1/jobs", content=content, headers=JSON)
            assert response.status_code == 413
            assert str(BODY_LIMIT) in str(problem_of(response, "body-too-large")["detail"])
    assert nothing_was_enqueued(jobs)


def test_a_length_over_the_limit_is_refused_before_any_byte_is_read(client: httpx.Client) -> None:
    connection = HTTPConnection(client.base_url.host, client.base_url.port)
    connection.putrequest("POST", "/v1/jobs")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "9" * 15)
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert response.getheader("connection") == "close"
    connection.close()


def test_a_body_that_does_not_come_is_not_waited_for(settings: Settings) -> None:
    hasty = settings.model_copy(update={"body_time_limit": 1})
    with serving(create_app(hasty), hasty) as client:
        connection = HTTPConnection(client.base_url.host, client.base_url.port, timeout=20)
        connection.putrequest("POST", "/v1/jobs")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b"{")
        response = connection.getresponse()
        assert response.status == 408
        assert json.loads(response.read())["type"] == ProblemType.REQUEST_TIMEOUT.uri
        connection.close()


def test_large_bodies_are_read_one_at_a_time(settings: Settings) -> None:
    roomy = settings.model_copy(update={"max_body_bytes": 2**20})
    body = {**SUBMIT, "texts": ["7 " * 250_000]}
    most = 0
    with serving(create_app(roomy), roomy) as client, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, "/v1/jobs", json=body) for _ in range(3)]
        while not all(answer.done() for answer in answers):
            stacks = [traceback.walk_stack(frame) for frame in sys._current_frames().values()]
            names = [{frame.f_code.co_qualname for frame, _ in stack} for stack in stacks]
            most = max(most, sum("admit" in found for found in names))
            time.sleep(0.001)
    assert most == 1
    for answer in answers:
        assert problem_of(answer.result(), "invalid-request")
