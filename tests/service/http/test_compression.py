import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator

import httpx
import pytest
import zstandard
from fastapi import Response
from fastapi.responses import StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from jobs import Jobs
from schemas.job import Shows
from schemas.names import ArtifactKind
from schemas.settings import Settings
from service.app import create_app
from service.http.codings import Accepted, accepted_by, compressor_for
from service.http.compression import Compression
from tests.service.conftest import FIGURE, SUBMIT, finished, problem_of, serving, started

LARGE = json.dumps([{"token": i, "value": i / 7} for i in range(100_000)]).encode()
DECODE = {
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def with_result(jobs: Jobs, data: bytes = LARGE) -> str:
    """The path of a job's result."""
    attempt = started(jobs)
    put = jobs.artifacts.writer(attempt).put
    result = put("result.json", data, ArtifactKind.RESULT, "application/json", Shows())
    jobs.store.succeed(attempt, [result])
    return f"/v1/jobs/{attempt.job_id}/result"


def raw(client: httpx.Client, path: str, accept: str | None, **headers: str) -> httpx.Response:
    """The response with its body as it came over the wire in `extensions["raw"]`."""
    request = client.build_request("GET", path, headers=headers)
    request.headers.pop("accept-encoding", None)
    if accept is not None:
        request.headers["accept-encoding"] = accept
    response = client.send(request, stream=True)
    response.extensions["raw"] = b"".join(response.iter_raw())
    response.close()
    return response


@pytest.mark.parametrize(
    ("header", "coding", "plain"),
    [
        ("", None, True),
        ("gzip", "gzip", True),
        ("gzip, deflate, br, zstd", "zstd", True),
        ("GZIP", "gzip", True),
        ("x-gzip", "gzip", True),
        ("gzip;q=1.0, zstd;q=0.5", "gzip", True),
        ("gzip; q=0.2 , zstd ;q=0.1", "gzip", True),
        ("gzip;q=0", None, True),
        ("gzip;q=0.000, zstd;q=0.001", "zstd", True),
        ("identity", None, True),
        ("identity;q=0.5, gzip;q=0.4", None, True),
        ("identity, gzip", "gzip", True),
        ("identity;q=0, gzip", "gzip", False),
        ("identity;q=0", None, True),
        ("*", "gzip", True),
        ("gzip;q=0, *", "zstd", True),
        ("zstd, *", "zstd", True),
        ("*;q=0", None, True),
        ("*;q=0, gzip", "gzip", False),
        ("*;q=0, gzip, identity;q=0.1", "gzip", True),
        ("br, deflate", None, True),
        ("gzip;q=2, zstd;q=-1, br;q=x", None, True),
        ("gzip;level=9", None, True),
        (",,;q=1,gzip", "gzip", True),
    ],
)
def test_what_a_client_likes_best(header: str, coding: str | None, plain: bool) -> None:
    assert accepted_by(header) == Accepted(coding, plain)


@given(st.one_of(st.text(max_size=40), st.text("gzipstd*;q=01., identity", max_size=60)))
def test_no_header_is_an_error(header: str) -> None:
    assert accepted_by(header).coding in (None, "gzip", "zstd")


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from(["gzip", "zstd"]))
def test_what_is_compressed_comes_back(pieces: list[bytes], coding: str) -> None:
    compressor = compressor_for(coding)
    sent = b"".join(map(compressor.compress, pieces)) + compressor.flush()
    assert DECODE[coding](sent) == b"".join(pieces)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_result_comes_compressed(client: httpx.Client, jobs: Jobs, coding: str) -> None:
    path = with_result(jobs)
    response = raw(client, path, coding)
    assert response.headers["content-encoding"] == coding
    assert len(response.extensions["raw"]) < len(LARGE) / 3
    assert DECODE[coding](response.extensions["raw"]) == LARGE
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["etag"] == f'W/"{hashlib.sha256(LARGE).hexdigest()}"'
    assert "immutable" in response.headers["cache-control"]
    for name in ("content-length", "accept-ranges", "repr-digest"):
        assert name not in response.headers


def test_plain_bytes_come_with_all_that_is_known_of_them(client: httpx.Client, jobs: Jobs) -> None:
    response = raw(client, with_result(jobs), None)
    assert response.extensions["raw"] == LARGE
    assert "content-encoding" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["etag"] == f'"{hashlib.sha256(LARGE).hexdigest()}"'
    assert response.headers["repr-digest"]
    assert response.headers["content-length"] == str(len(LARGE))


@pytest.mark.parametrize("form", ["W/{tag}", "{tag}"])
def test_a_client_that_holds_either_form_gets_none(
    client: httpx.Client, jobs: Jobs, form: str
) -> None:
    path = with_result(jobs)
    held = form.format(tag=raw(client, path, None).headers["etag"])
    response = raw(client, path, "gzip", **{"If-None-Match": held})
    assert response.status_code == 304
    assert response.headers["etag"] == held
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.extensions["raw"] == b""


def test_a_part_is_of_the_plain_bytes(client: httpx.Client, jobs: Jobs) -> None:
    path = with_result(jobs)
    part = raw(client, path, "gzip, identity;q=0", Range="bytes=100-99999")
    assert part.status_code == 206
    assert "content-encoding" not in part.headers
    assert part.extensions["raw"] == LARGE[100:100_000]
    assert part.headers["vary"] == "Accept-Encoding"
    compressed = raw(client, path, "gzip").headers["etag"]
    whole = raw(client, path, "gzip", **{"Range": "bytes=100-", "If-Range": compressed})
    assert whole.status_code == 200
    assert gzip.decompress(whole.extensions["raw"]) == LARGE


@pytest.mark.parametrize("accept", ["gzip", "zstd", "identity", None])
@pytest.mark.parametrize("kind", ["result", "small", "png", "job", "openapi", "missing"])
def test_head_tells_what_get_would(
    client: httpx.Client, jobs: Jobs, kind: str, accept: str | None
) -> None:
    path = {
        "result": lambda: with_result(jobs),
        "small": lambda: with_result(jobs, b"{}"),
        "png": lambda: f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png",
        "job": lambda: f"/v1/jobs/{finished(jobs)}",
        "openapi": lambda: "/openapi.json",
        "missing": lambda: "/v1/jobs/none",
    }[kind]()
    got = raw(client, path, accept)
    request = client.build_request("HEAD", path)
    request.headers.pop("accept-encoding")
    if accept:
        request.headers["accept-encoding"] = accept
    head = client.send(request)
    assert head.status_code == got.status_code
    assert head.content == b""
    changing = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in got.headers.items() if k not in changing
    }


def test_what_is_small_or_compressed_already_is_left_alone(
    client: httpx.Client, jobs: Jobs
) -> None:
    job_id = finished(jobs)
    for path in (f"/v1/jobs/{job_id}", "/v1/nothing", f"/v1/jobs/{job_id}/result"):
        response = raw(client, path, "gzip")
        assert "content-encoding" not in response.headers
        assert response.headers["vary"] == "Accept-Encoding"
    for path in (f"/v1/jobs/{job_id}/artifacts/sheet.png", f"/v1/jobs/{job_id}/archive"):
        response = raw(client, path, "gzip, identity;q=0")
        assert "content-encoding" not in response.headers
        assert "vary" not in response.headers
    assert client.get(f"/v1/jobs/{job_id}/artifacts/sheet.png").content == FIGURE


def test_who_takes_no_plain_bytes_gets_small_ones_compressed_too(
    client: httpx.Client, jobs: Jobs
) -> None:
    response = raw(client, "/v1/jobs/none", "gzip, identity;q=0")
    assert response.headers["content-encoding"] == "gzip"
    body = gzip.decompress(response.extensions["raw"])
    assert json.loads(body)["status"] == 404
    assert int(response.headers["content-length"]) == len(response.extensions["raw"])


def test_problems_and_jobs_that_are_large_are_compressed(client: httpx.Client) -> None:
    unknown = {f"no_such_field_{index}": 1 for index in range(60)}
    response = client.post("/v1/jobs", json=SUBMIT | unknown, headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    problem_of(response, "invalid-request")
    long = SUBMIT | {"texts": ["apple 3 river " * 3] * 60}
    accepted = client.post("/v1/jobs", json=long, headers={"Accept-Encoding": "zstd"})
    assert accepted.status_code == 202
    assert accepted.headers["content-encoding"] == "zstd"
    assert accepted.json()["request"]["texts"] == long["texts"]


def test_a_header_longer_than_any_honest_one_gets_plain_bytes(
    client: httpx.Client, jobs: Jobs
) -> None:
    response = raw(client, with_result(jobs), "gzip" + ", x" * 10_000)
    assert "content-encoding" not in response.headers
    assert response.extensions["raw"] == LARGE


def test_events_are_neither_compressed_nor_held_back(settings: Settings) -> None:
    app = create_app(settings)
    told = threading.Event()

    def events() -> Iterator[str]:
        yield "data: first\n\n" * 1000
        assert told.wait(20)
        yield "data: last\n\n"

    @app.get("/stream")
    def stream() -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    accepting = {"Accept-Encoding": "gzip, zstd, identity;q=0"}
    with (
        serving(app, settings) as client,
        client.stream("GET", "/stream", headers=accepting) as response,
    ):
        assert "content-encoding" not in response.headers
        pieces = response.iter_raw()
        assert next(pieces).startswith(b"data: first")
        told.set()
        assert b"".join(pieces).endswith(b"data: last\n\n")


def test_a_result_taken_from_the_store_in_mid_stream_breaks_the_connection(
    client: httpx.Client, jobs: Jobs
) -> None:
    # Random digits: compressed they still fill the sockets.
    noise = json.dumps(hashlib.shake_256(b"").hexdigest(12 << 20)).encode()
    path = with_result(jobs, noise)
    job_id = path.split("/")[3]
    stored = jobs.store.artifacts(job_id)
    assert stored is not None
    headers = {"Accept-Encoding": "gzip"}
    with client.stream("GET", path, headers=headers) as response:
        pieces = response.iter_raw()
        next(pieces)
        jobs.artifacts.discard(job_id, stored.token)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass


def test_the_event_loop_runs_on_while_a_large_body_is_compressed() -> None:
    """The parts are real; only nothing is sent anywhere, which would let others run as well."""
    body = LARGE * 4
    start = {"type": "http.response.start", "status": 200}
    scope = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}
    sent: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**start, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def turns_of_others() -> int:
        serving = asyncio.ensure_future(Compression(app)(scope, receive, send))
        turns = 0
        while not serving.done():
            await asyncio.sleep(0)
            turns += 1
        await serving
        return turns

    assert asyncio.run(turns_of_others()) > len(body) // 2**18
    assert gzip.decompress(b"".join(sent)) == body
