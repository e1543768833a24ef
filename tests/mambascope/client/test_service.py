"""Talking to services that are slow, away, broken, or something else altogether."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from mambascope.submitting import (
    PATIENCE,
    Broke,
    Refused,
    Service,
    Standing,
    SubmittingError,
    TimedOut,
    Unreachable,
)
from schemas.job import Job, Links
from schemas.names import Status
from schemas.problem import FieldError, Problem, ProblemType
from schemas.request import JobRequest

Answer = Callable[[httpx.Request], httpx.Response]


def job(status: Status) -> Job:
    return Job(
        id="1",
        status=status,
        created_at=datetime.now(UTC),
        request=JobRequest(texts=["a"]),
        links=Links(
            self="http://elsewhere/1", result="", artifacts="", archive="", events="", cancel=""
        ),
    )


def answer(status: Status, after: str | None = None, **more: Any) -> httpx.Response:
    headers = {} if after is None else {"Retry-After": after}
    return httpx.Response(200, json=job(status).model_dump(mode="json") | more, headers=headers)


def problem(kind: ProblemType, after: str | None = None) -> httpx.Response:
    said = Problem.of(kind, "Why.", [FieldError(pointer="/texts/0", detail="How.")])
    headers = {"Content-Type": "application/problem+json"}
    if after is not None:
        headers["Retry-After"] = after
    return httpx.Response(kind.status, content=said.model_dump_json(), headers=headers)


class Script:
    """A service that answers one thing after another, and raises what is an exception."""

    def __init__(self, *answers: httpx.Response | Exception, url: str = "http://test") -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self.notices: list[str] = []
        http = httpx.Client(base_url=url, transport=httpx.MockTransport(self._answer))
        self.now = 100.0
        self.service = Service(
            http, away=self.notices.append, sleep=self._sleep, clock=lambda: self.now
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        given = self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given


QUEUED = Standing(job(Status.QUEUED), 2.0)


def test_follows_a_job_and_asks_when_it_is_told_to() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    script = Script(
        answer(Status.RUNNING, "3"), answer(Status.RUNNING, later), answer(Status.SUCCEEDED)
    )
    seen: list[Status] = []
    ended = script.service.follow(QUEUED, lambda job: seen.append(job.status))
    assert ended.status == Status.SUCCEEDED
    assert seen == ["queued", "running", "running", "succeeded"]
    assert script.slept[:2] == [2.0, 3.0]
    assert 7 < script.slept[2] <= 9
    assert {request.url.path for request in script.asked} == {"/v1/jobs/1"}


def test_service_that_is_away_for_a_while_is_asked_again() -> None:
    script = Script(
        httpx.ConnectError("refused"),
        problem(ProblemType.UNAVAILABLE, "5"),
        httpx.Response(502, text="proxy"),
        httpx.ReadTimeout("slow"),
        answer(Status.SUCCEEDED),
    )
    assert script.service.follow(QUEUED, lambda job: None).status == Status.SUCCEEDED
    assert script.slept == [2.0, 1.0, 5.0, 1.0, 1.0]
    assert script.notices == ["http://test does not answer (refused); asking again."]


def test_service_that_stays_away_is_unreachable() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 100)
    with pytest.raises(Unreachable, match=r"http://test \(refused\)"):
        script.service.look("1")
    assert sum(script.slept) == PATIENCE
    assert len(script.notices) == 1


def test_time_limit_ends_with_a_last_look() -> None:
    script = Script(answer(Status.RUNNING, "3"), answer(Status.SUCCEEDED))
    script.service.follow(QUEUED, lambda job: None, time_limit=2.5)
    assert script.slept == [2.0, 0.5]
    script = Script(answer(Status.RUNNING, "3"), answer(Status.RUNNING, "3"))
    with pytest.raises(TimedOut):
        script.service.follow(QUEUED, lambda job: None, time_limit=2.5)
    assert script.slept == [2.0, 0.5]


def test_time_limit_is_kept_also_while_the_service_is_away() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 100)
    with pytest.raises(TimedOut):
        script.service.follow(QUEUED, lambda job: None, time_limit=10.0)
    assert sum(script.slept) == 10.0


def test_submission_is_sent_once_when_its_fate_is_unknown() -> None:
    script = Script(httpx.ReadTimeout("slow"))
    with pytest.raises(Unreachable, match="may have been accepted"):
        script.service.submit({})
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable, match="Nothing answers"):
        script.service.submit({})
    assert len(script.asked) == 1
    script = Script(problem(ProblemType.UNAVAILABLE, "5"), answer(Status.QUEUED, "1"))
    assert script.service.submit({"texts": ["\ud83d"]}).job.status == Status.QUEUED
    assert script.slept == [5.0]
    assert json.loads(script.asked[1].content) == {"texts": ["\ud83d"]}


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (problem(ProblemType.INVALID_REQUEST), Refused, "Why."),
        (problem(ProblemType.BODY_TOO_LARGE), Refused, "Why."),
        (problem(ProblemType.INTERNAL), Broke, "Why."),
        (httpx.Response(404, text="<html>"), Unreachable, r"no Mambascope \(status 404\)"),
        (httpx.Response(403, json={"error": 1}), Unreachable, "no Mambascope"),
        (httpx.Response(200, text="<html>"), Unreachable, "no Mambascope"),
        (httpx.Response(200, json={"id": "1"}), Broke, "sent no Job that this version"),
        (
            httpx.Response(301, headers={"Location": "https://test/v1/jobs"}),
            Unreachable,
            "sends on to https://test/v1/jobs",
        ),
    ],
)
def test_every_other_answer_has_its_kind(
    given: httpx.Response, kind: type[SubmittingError], said: str
) -> None:
    for ask in (lambda s: s.submit({}), lambda s: s.look("1")):
        with pytest.raises(kind, match=said) as caught:
            ask(Script(given).service)
        if kind is Refused:
            assert caught.value.problem.errors[0].pointer == "/texts/0"


def test_what_a_newer_service_adds_is_left_out() -> None:
    script = Script(answer(Status.RUNNING, new_field={"deep": 1}))
    assert script.service.look("1").job.status == Status.RUNNING


@pytest.mark.parametrize("after", ["soon", "", "-3", "999999999", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_unreasonable_retry_after_does_no_harm(after: str) -> None:
    assert 0 < Script(answer(Status.RUNNING, after)).service.look("1").ask_after <= 300


def test_paths_are_made_from_ids_alone() -> None:
    script = Script(answer(Status.RUNNING), url="http://user:secret@test/prefix/")
    script.service.look("../../a b?c")
    assert script.asked[0].url.raw_path == b"/prefix/v1/jobs/..%2F..%2Fa%20b%3Fc"
    assert script.service.location("1") == "http://test/prefix/v1/jobs/1"
