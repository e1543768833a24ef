"""A real server on a free port, with tiny models and a small body limit."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from jobs import Attempt, Jobs, open_jobs
from schemas.job import Shows
from schemas.names import ArtifactKind
from schemas.request import JobRequest
from schemas.settings import Settings
from service.app import create_app
from service.server import server_for
from tests.catalogue.models import GPT2, save_model

BODY_LIMIT = 20_000
SUBMIT = {"models": ["tiny"], "texts": ["apple 3 river"]}


@pytest.fixture(autouse=True, scope="session")
def quiet_logs() -> Iterator[None]:
    """Keep the service's lines out of the tests' output; the console form is slow, too."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def settings(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The installation that the tests of one module share, with two models on its disk."""
    home = tmp_path_factory.mktemp("service")
    save_model(home / "models" / "tiny")
    save_model(home / "models" / "owner" / "short", GPT2)
    return Settings(
        redis_url=SecretStr(valkey),
        key_prefix=f"test-{uuid.uuid4().hex[:12]}",
        data_dir=home / "data",
        model_dir=home / "models",
        max_body_bytes=BODY_LIMIT,
        max_tokens=50,
        max_texts=64,
        port=0,
    )


@pytest.fixture(autouse=True)
def jobs(settings: Settings) -> Iterator[Jobs]:
    """The open jobs of that installation; what a test leaves in the store goes."""
    opened = open_jobs(settings)
    yield opened
    for key in opened.redis.scan_iter(f"*{settings.key_prefix}*"):
        opened.redis.delete(key)
    opened.close()


@contextmanager
def serving(app: FastAPI, settings: Settings) -> Iterator[httpx.Client]:
    """The application behind a real server in a thread, and a client of it."""
    server = server_for(app, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while server.port is None:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a running service."""
    with serving(create_app(settings), settings) as found:
        yield found


def started(jobs: Jobs) -> Attempt:
    """A job that a worker has just taken."""
    attempt = jobs.store.start(jobs.submit(JobRequest(**SUBMIT)).id, "worker-1")
    assert attempt is not None
    return attempt


RESULT = b'{"schema_version": "1",   "job_id": "kept byte by byte"}'
FIGURE = b"\x89PNG" + bytes(range(256)) * 400


def finished(jobs: Jobs) -> str:
    """The id of a job that succeeded and left a result and a figure."""
    attempt = started(jobs)
    writer = jobs.artifacts.writer(attempt)
    artifacts = [
        writer.put("result.json", RESULT, ArtifactKind.RESULT, "application/json", Shows()),
        writer.put("sheet.png", FIGURE, ArtifactKind.FIGURE, "image/png", Shows(layer=1)),
    ]
    jobs.store.succeed(attempt, artifacts)
    return attempt.job_id


def problem_of(response: httpx.Response, slug: str) -> dict[str, object]:
    """The problem in a response, which must be one of that kind and say so everywhere."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    problem: dict[str, object] = response.json()
    assert problem["type"] == f"urn:mambascope:problem:{slug}"
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    return problem
