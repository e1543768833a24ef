from datetime import UTC, datetime

import pytest

from jobs.view import links_of
from mambascope.progress import left, tell_job
from schemas.job import Job, Progress
from schemas.names import Stage, Status
from schemas.request import JobRequest


class Heard:
    def __init__(self) -> None:
        self.stages: list[tuple[str, str, float | None]] = []

    def stage(self, name: str, detail: str = "", fraction: float | None = None) -> None:
        self.stages.append((name, detail, fraction))

    def notice(self, line: str) -> None:
        raise AssertionError(line)


def running(remaining: float | None) -> Job:
    stage, detail = Stage.ANALYSING, "text 3 of 40"
    progress = Progress(fraction=0.25, stage=stage, detail=detail, remaining_seconds=remaining)
    return Job(
        id="J",
        status=Status.RUNNING,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        progress=progress,
        request=JobRequest(texts=["a"]),
        links=links_of("J"),
    )


@pytest.mark.parametrize(
    ("remaining", "detail"),
    [(160.0, "about 3 min left, text 3 of 40"), (None, "text 3 of 40")],
)
def test_who_follows_a_job_is_told_how_long_it_still_takes(
    remaining: float | None, detail: str
) -> None:
    heard = Heard()
    tell_job(heard, running(remaining))
    assert heard.stages == [("running: analysing", detail, 0.25)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 s left"),
        (99, "about 99 s left"),
        (5900, "about 99 min left"),
        (86400, "about 24 h left"),
    ],
)
def test_time_that_is_left_has_a_unit_that_suits_it(seconds: float, words: str) -> None:
    assert left(seconds) == words
