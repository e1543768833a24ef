"""Log lines and what happens when nobody can take them."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from schemas.settings import Settings
from service.app import create_app
from service.logs import configure_logs
from tests.service.conftest import serving


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("path", ["é\n", "half of a pair: \ud83d"])
def test_every_line_is_json(tmp_path: Path, path: str) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure_logs("INFO", stream)
        structlog.get_logger("x").info("said", path=path, about={1: {2}})
    line = json.loads((tmp_path / "log").read_text())
    assert (line["event"], line["path"], line["level"]) == ("said", path, "info")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_requests_are_answered_while_the_log_cannot_be_written(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": type(settings.redis_url)("unix:///none")})
    with Path("/dev/full").open("wb", buffering=0) as full:
        configure_logs("INFO", io.TextIOWrapper(full, write_through=True))
        # A logger that is kept would write to this closed file in the tests that follow.
        structlog.configure(cache_logger_on_first_use=False)
        with serving(create_app(nowhere), nowhere) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            answer = client.get("/v1/jobs/01KAQ3V9Q0Z7X3M5B8F2N6T4RC")
            assert answer.headers["content-type"] == "application/problem+json"
