"""Talking to services that are slow, away, broken, or something else altogether."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from mambascope.client.connecting import address
from mambascope.client.errors import (
    JobGone,
    MambascopeError,
    NotFound,
    RateLimited,
    RequestRefused,
    ServiceFault,
    TimedOut,
    Unauthenticated,
    Unreachable,
)
from mambascope.client.exchange import PATIENCE
from mambascope.client.service import Service, Standing
from mambascope.client.wire import BlockingWire, iterate, run
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
        wire = BlockingWire(http, pause=self._sleep, clock=lambda: self.now)
        self.service = Service(wire, away=self.notices.append)
        self.service.exchange.lot = lambda: 0.0

    def look(self, job_id: str = "1") -> Standing:
        return run(self.service.look(job_id))

    def follow(self, standing: Standing, time_limit: float | None = None) -> Job:
        self.seen: list[Status] = []
        return run(
            self.service.follow(standing, lambda job: self.seen.append(job.status), time_limit)
        )

    def submit(self, body: dict[str, Any]) -> Standing:
        return run(self.service.submit(body))

    def met(self) -> "Script":
        """After a first answer."""
        first, self.answers = self.answers, [answer(Status.RUNNING)]
        self.look()
        self.answers = first
        self.asked.clear()
        return self

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
    assert script.follow(QUEUED).status == Status.SUCCEEDED
    assert script.seen == ["queued", "running", "running", "succeeded"]
    assert script.slept[0] == 3.0
    assert 7 < script.slept[1] <= 9
    assert {request.url.path for request in script.asked} == {"/v1/jobs/1"}


def test_waits_for_a_change_of_what_it_has_seen() -> None:
    def tagged(status: Status, tag: str) -> httpx.Response:
        said = answer(status, "3")
        said.headers["ETag"] = tag
        return said

    script = Script(
        tagged(Status.RUNNING, '"a"'),
        httpx.Response(304),
        tagged(Status.RUNNING, '"a"'),
        tagged(Status.SUCCEEDED, '"b"'),
    )
    assert script.follow(QUEUED).status == Status.SUCCEEDED
    assert [request.url.params["wait"] for request in script.asked] == ["20"] * 4
    assert [r.headers.get("If-None-Match") for r in script.asked] == [None, '"a"', '"a"', '"a"']
    first, *rest = script.slept
    assert first < 1.0, "a change is asked after at once"
    assert rest == [3.0, 3.0], "what was unchanged and came early was not waited for"


def test_service_that_lets_nobody_wait_is_asked_as_it_says() -> None:
    error = FieldError(parameter="wait", detail="Give a number of seconds from 0 to 5.")
    said = Problem.of(ProblemType.INVALID_REQUEST, error.detail, [error]).model_dump_json()
    refused = httpx.Response(422, content=said, headers={"Content-Type": "application/json"})
    script = Script(refused, answer(Status.RUNNING, "3"), answer(Status.SUCCEEDED))
    assert script.follow(QUEUED).status == Status.SUCCEEDED
    assert script.slept == [3.0]
    assert [request.url.params.get("wait") for request in script.asked] == ["20", None, None]


def test_service_that_is_away_for_a_while_is_asked_again() -> None:
    script = Script(
        httpx.ConnectError("refused"),
        problem(ProblemType.UNAVAILABLE, "5"),
        httpx.Response(502, text="proxy"),
        httpx.ReadTimeout("slow"),
        answer(Status.SUCCEEDED),
    ).met()
    assert script.follow(QUEUED).status == Status.SUCCEEDED
    assert script.slept == [1.0, 5.0, 2.0, 4.0]
    assert script.notices == ["http://test does not answer (refused); asking again."]


def test_service_that_answers_is_not_said_to_be_silent() -> None:
    script = Script(problem(ProblemType.RATE_LIMIT, "5"), answer(Status.SUCCEEDED))
    assert script.follow(QUEUED).status == Status.SUCCEEDED
    assert script.notices == ["http://test asks to come back later (Why.); asking again."]


def test_those_who_wait_do_not_come_back_at_once() -> None:
    script = Script(httpx.ConnectError("refused"), answer(Status.SUCCEEDED)).met()
    script.service.exchange.lot = lambda: 0.5
    script.look()
    assert script.slept == [0.75]


def test_service_that_stays_away_is_unreachable() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 100).met()
    with pytest.raises(Unreachable, match=r"http://test \(refused\)"):
        script.look()
    assert sum(script.slept) == PATIENCE
    assert len(script.notices) == 1


def test_address_where_nothing_ever_answered_is_not_waited_for() -> None:
    script = Script(httpx.ConnectError("refused"))
    for ask in (script.look, lambda: script.submit({})):
        script.answers = [httpx.ConnectError("refused")]
        with pytest.raises(Unreachable, match=r"Nothing answers at http://test \(refused\)"):
            ask()
    assert script.slept == []


def test_time_limit_ends_with_a_last_look() -> None:
    script = Script(answer(Status.RUNNING, "3"), answer(Status.SUCCEEDED))
    script.follow(QUEUED, time_limit=2.5)
    assert script.slept == [2.5]
    script = Script(answer(Status.RUNNING, "3"), answer(Status.RUNNING, "3"))
    with pytest.raises(TimedOut):
        script.follow(QUEUED, time_limit=2.5)
    assert script.slept == [2.5]
    assert [request.url.params.get("wait") for request in script.asked] == ["2", None]


def test_time_limit_is_kept_also_while_the_service_is_away() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 100).met()
    with pytest.raises(TimedOut):
        script.follow(QUEUED, time_limit=10.0)
    assert sum(script.slept) == 10.0


def test_submission_is_sent_again_under_the_same_key() -> None:
    script = Script(
        httpx.ReadTimeout("slow"),
        problem(ProblemType.UNAVAILABLE, "5"),
        problem(ProblemType.RATE_LIMIT, "7"),
        answer(Status.QUEUED, "1"),
    )
    assert script.submit({"texts": ["\ud83d"]}).job.status == Status.QUEUED
    assert script.slept == [1.0, 5.0, 7.0]
    (key,) = {request.headers["Idempotency-Key"] for request in script.asked}
    script.answers = [answer(Status.QUEUED, "1")]
    script.submit({})
    assert script.asked[-1].headers["Idempotency-Key"] != key
    assert json.loads(script.asked[1].content) == {"texts": ["\ud83d"]}


def test_submission_whose_fate_stays_unknown_says_how_to_go_on() -> None:
    script = Script(*[httpx.ReadTimeout("slow")] * 100)
    with pytest.raises(Unreachable, match="Nothing answers") as caught:
        script.submit({})
    key = script.asked[0].headers["Idempotency-Key"]
    assert f"may have been accepted. Submitted again with idempotency_key='{key}'" in "".join(
        caught.value.__notes__
    )


def test_limit_that_lasts_is_told_and_not_sat_out() -> None:
    script = Script(problem(ProblemType.TOKEN_LIMIT, "7200"))
    with pytest.raises(RateLimited, match="Too many tokens for one day") as caught:
        script.submit({})
    assert caught.value.retry_after == 7200
    assert script.slept == []


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (problem(ProblemType.INVALID_REQUEST), RequestRefused, "Why."),
        (problem(ProblemType.UNAUTHENTICATED), Unauthenticated, "Why."),
        (problem(ProblemType.NOT_FOUND), NotFound, "Why."),
        (problem(ProblemType.GONE), JobGone, "Why."),
        (problem(ProblemType.BODY_TOO_LARGE), RequestRefused, "Why."),
        (problem(ProblemType.INTERNAL), ServiceFault, "Why."),
        (httpx.Response(404, text="<html>"), Unreachable, r"no Mambascope \(status 404\)"),
        (httpx.Response(403, json={"error": 1}), Unreachable, "no Mambascope"),
        (httpx.Response(200, text="<html>"), Unreachable, "no Mambascope"),
        (httpx.Response(200, json={"id": "1"}), ServiceFault, "sent no Job that this version"),
        (
            httpx.Response(301, headers={"Location": "https://test/v1/jobs"}),
            Unreachable,
            "sends on to https://test/v1/jobs",
        ),
    ],
)
def test_every_other_answer_has_its_kind(
    given: httpx.Response, kind: type[MambascopeError], said: str
) -> None:
    for ask in (lambda s: s.submit({}), lambda s: s.look("1")):
        with pytest.raises(kind, match=said) as caught:
            run(ask(Script(given).service))
        if isinstance(caught.value, RequestRefused):
            assert caught.value.problem.errors[0].pointer == "/texts/0"


def test_what_a_newer_service_adds_is_left_out() -> None:
    script = Script(answer(Status.RUNNING, new_field={"deep": 1}))
    assert script.look().job.status == Status.RUNNING


@pytest.mark.parametrize("after", ["soon", "", "-3", "999999999", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_unreasonable_retry_after_does_no_harm(after: str) -> None:
    assert 0 < Script(answer(Status.RUNNING, after)).look().ask_after <= 300


def test_paths_are_made_from_ids_alone() -> None:
    script = Script(answer(Status.RUNNING), url="http://user:secret@test/prefix/")
    script.look("../../a b?c")
    assert script.asked[0].url.raw_path == b"/prefix/v1/jobs/..%2F..%2Fa%20b%3Fc"
    assert script.service.location("1") == "http://test/prefix/v1/jobs/1"


@pytest.mark.parametrize("written", ["ftp://x", "http://x:port", "http://"])
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        address(written)
    assert address("host:1") == "http://host:1"


def test_pages_are_fetched_as_they_are_needed() -> None:
    def page(*ids: str, cursor: str | None) -> httpx.Response:
        shown = job(Status.SUCCEEDED).model_dump(mode="json", exclude={"request", "deliveries"})
        jobs = [shown | {"id": id, "models": ["m"], "texts": 1} for id in ids]
        return httpx.Response(200, json={"jobs": jobs, "next_cursor": cursor})

    script = Script(page("3", "2", cursor="x"), page(cursor="y"), page("1", "0", cursor="z"))
    listed = iterate(script.service.listed("succeeded", "m", limit=3))
    assert (next(listed).id, len(script.asked)) == ("3", 1)
    assert [job.id for job in listed] == ["2", "1"]
    params = [dict(request.url.params) for request in script.asked]
    assert [(p["limit"], p.get("cursor")) for p in params] == [("3", None), ("1", "x"), ("1", "y")]
    assert {(p["status"], p["model"]) for p in params} == {("succeeded", "m")}


def test_cancel_of_what_has_ended_and_delete_of_what_is_gone_have_nothing_to_do() -> None:
    script = Script(problem(ProblemType.ALREADY_ENDED), answer(Status.SUCCEEDED))
    assert run(script.service.cancel("1")).status == Status.SUCCEEDED
    script = Script(httpx.ReadError("cut"), problem(ProblemType.GONE))
    run(script.service.delete("1"))
    assert [request.method for request in script.asked] == ["DELETE"] * 2
    with pytest.raises(NotFound):
        run(Script(problem(ProblemType.NOT_FOUND)).service.delete("1"))
