import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from itertools import islice

import httpx
import pytest

from jobs import Attempt, Jobs
from jobs.events.feed import Feed
from schemas.job import Progress
from schemas.names import Departure, Stage
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from service.app import create_app
from service.following import event_stream
from tests.service.conftest import SUBMIT, problem_of, serving, started
from tests.service.events import Told, all_told, watching


def report(jobs: Jobs, attempt: Attempt, *details: str) -> None:
    for detail in details:
        progress = Progress(fraction=0.5, stage=Stage.TRACING, detail=detail, texts_done=1, texts=2)
        jobs.store.progress(attempt, progress)


def shorts(events: list[Told]) -> list[str]:
    return [told.short for told in events]


def test_a_job_is_told_from_how_it_stands_to_its_end(client: httpx.Client, jobs: Jobs) -> None:
    job_id = jobs.submit(JobRequest(**SUBMIT)).id
    with watching(client, job_id) as events:
        seen = [next(events)]
        attempt = jobs.store.start(job_id, "worker-1")
        assert attempt is not None
        seen.append(next(events))
        for detail in ("one", "two"):
            report(jobs, attempt, detail)
            seen.append(next(events))
        jobs.store.succeed(attempt, [])
        seen += events
    assert shorts(seen) == ["queued", "running", "running one", "running two", "succeeded"]
    assert [told.name for told in seen] == ["status", "status", "progress", "progress", "status"]
    assert len({told.id for told in seen}) == 5
    assert seen[2].event.progress.texts == 2
    assert seen[1].event.attempts == 1
    assert seen[-1].event.progress.fraction == 1.0


def test_the_headers_of_a_stream(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{started(jobs).job_id}/events"
    with client.stream("GET", path) as response:
        assert next(response.iter_lines()) == "retry: 2000"
    head = client.head(path)
    for answer in (response, head):
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers
    assert head.content == b""


def test_a_watch_begins_with_all_that_is_known_of_the_moment(
    client: httpx.Client, jobs: Jobs
) -> None:
    attempt = started(jobs)
    report(jobs, attempt, "one", "two")
    with watching(client, attempt.job_id) as events:
        first = next(events)
    assert (first.name, first.short) == ("status", "running two")
    assert first.event.progress.stage is Stage.TRACING


def test_one_who_comes_back_gets_what_came_after_and_nothing_twice(
    client: httpx.Client, jobs: Jobs
) -> None:
    attempt = started(jobs)
    report(jobs, attempt, "one")
    everything = []
    with watching(client, attempt.job_id, "0") as events:
        everything += islice(events, 3)
    report(jobs, attempt, "two", "three")
    jobs.store.fail(attempt, Problem.of(ProblemType.TIME_LIMIT, "It ran long."))
    everything += all_told(client, attempt.job_id, everything[-1].id)
    assert shorts(everything) == [
        *("queued", "running", "running one", "running two", "running three", "failed three")
    ]
    assert shorts(all_told(client, attempt.job_id, "0")) == shorts(everything)
    assert shorts(all_told(client, attempt.job_id)) == ["failed three"]


def test_one_who_has_the_last_event_need_not_come_again(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    jobs.store.succeed(attempt, [])
    [last] = all_told(client, attempt.job_id)
    path = f"/v1/jobs/{attempt.job_id}/events"
    answer = client.get(path, headers={"Last-Event-ID": last.id})
    assert answer.status_code == 204
    assert answer.content == b""
    assert client.head(path, headers={"Last-Event-ID": last.id}).status_code == 204


def test_one_who_has_all_there_is_so_far_waits(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    with watching(client, attempt.job_id) as events:
        last = next(events)
    with watching(client, attempt.job_id, last.id) as events:
        report(jobs, attempt, "one")
        assert next(events).short == "running one"


def test_a_history_longer_than_is_read_at_once(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    details = [f"layer {number}" for number in range(350)]
    report(jobs, attempt, *details)
    jobs.store.succeed(attempt, [])
    told = all_told(client, attempt.job_id, "0-0")
    assert shorts(told) == [
        *("queued", "running", *(f"running {detail}" for detail in details), "succeeded")
    ]
    assert shorts(all_told(client, attempt.job_id, told[199].id)) == shorts(told[200:])


def test_an_event_that_was_trimmed_away_gets_what_is_kept(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    report(jobs, attempt, *map(str, range(50)))
    jobs.store.succeed(attempt, [])
    told = all_told(client, attempt.job_id, "0")
    events = next(jobs.redis.scan_iter(f"*events:{attempt.job_id}"))
    jobs.redis.xtrim(events, maxlen=10, approximate=False)
    assert shorts(all_told(client, attempt.job_id, told[3].id)) == shorts(told[-10:])


def test_an_event_from_the_future_is_no_reason_to_wait_for_ever(
    client: httpx.Client, jobs: Jobs
) -> None:
    attempt = started(jobs)
    future = str(10**19 - 1)
    with watching(client, attempt.job_id, future) as events:
        assert next(events).short == "running"
        jobs.store.succeed(attempt, [])
        assert [told.short for told in events] == ["succeeded"]


@pytest.mark.parametrize(
    "wrong",
    ["x", "-", "1-", "-1", "1-2-3", "1 2", "+1", "1.0", "1e3", str(2**64), "9" * 30, "\u0661"],
)
def test_ids_that_are_none(client: httpx.Client, jobs: Jobs, wrong: str) -> None:
    path = f"/v1/jobs/{started(jobs).job_id}/events"
    answer = client.get(path, headers={"Last-Event-ID": wrong.encode()})
    assert answer.status_code == 422
    [error] = problem_of(answer, "invalid-request")["errors"]
    assert error["parameter"] == "Last-Event-ID"


def test_no_parameter_is_known(client: httpx.Client, jobs: Jobs) -> None:
    answer = client.get(f"/v1/jobs/{started(jobs).job_id}/events?last_event_id=0")
    assert answer.status_code == 422
    [error] = problem_of(answer, "invalid-request")["errors"]
    assert error["parameter"] == "last_event_id"


def test_jobs_that_are_not_there(client: httpx.Client, jobs: Jobs) -> None:
    assert client.get(f"/v1/jobs/{'0' * 26}/events").status_code == 404
    attempt = started(jobs)
    jobs.remove(attempt.job_id, Departure.DELETED)
    answer = client.get(f"/v1/jobs/{attempt.job_id}/events", headers={"Last-Event-ID": "0"})
    problem_of(answer, "gone")


def test_a_stream_ends_when_its_job_is_deleted(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    with watching(client, attempt.job_id) as events:
        assert next(events).short == "running"
        jobs.remove(attempt.job_id, Departure.DELETED)
        assert list(events) == []


def test_a_stream_is_kept_alive(
    client: httpx.Client, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_stream.KEEP_ALIVE <= 15
    monkeypatch.setattr(event_stream, "KEEP_ALIVE", 0.05)
    attempt = started(jobs)
    with client.stream("GET", f"/v1/jobs/{attempt.job_id}/events") as response:
        lines = response.iter_lines()
        assert ":" in list(islice(lines, 20))
        jobs.store.succeed(attempt, [])
        assert any(line.startswith("data: ") and "succeeded" in line for line in lines)


def test_a_job_that_goes_back_to_the_queue_is_watched_on(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    with watching(client, attempt.job_id) as events:
        next(events)
        jobs.store.give_up(attempt.job_id, None, "it was killed")
        again = jobs.store.start(attempt.job_id, "worker-2")
        assert again is not None
        jobs.store.succeed(again, [])
        rest = list(events)
    assert shorts(rest) == ["queued", "running", "succeeded"]
    assert [told.event.attempts for told in rest] == [1, 2, 2]


@pytest.fixture
def own(settings: Settings) -> Iterator[tuple[httpx.Client, Feed]]:
    """A service of the test's own, which tells how many tasks it has, and its feed."""
    app = create_app(settings)

    @app.get("/tasks")
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    with serving(app, settings) as client:
        yield client, app.state.context.feed


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until something is the case, for ten seconds at most."""
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come about")


def opened(client: httpx.Client, job_id: str) -> socket.socket:
    """A connection on which a stream has begun."""
    address = client.base_url.host, client.base_url.port
    connection = socket.socket()
    # Before it is connected, or the window would be larger already.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(address)
    connection.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    begun = b""
    while b"data: " not in begun:
        begun += connection.recv(4096)
    return connection


def test_clients_that_vanish_leave_nothing_behind(
    own: tuple[httpx.Client, Feed], jobs: Jobs
) -> None:
    client, feed = own
    attempt = started(jobs)
    opened(client, attempt.job_id).close()
    eventually(lambda: not feed.listeners)
    before = client.get("/tasks").json()
    connections = [opened(client, attempt.job_id) for _ in range(50)]
    assert feed.listeners == 50
    assert client.get("/tasks").json() == before + 100
    for number, connection in enumerate(connections):
        if number % 2:
            # Reset, as by a client that was killed.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    eventually(lambda: not feed.listeners)
    assert client.get("/tasks").json() == before


def test_a_poll_whose_client_vanishes_waits_no_longer(
    own: tuple[httpx.Client, Feed], jobs: Jobs
) -> None:
    client, feed = own
    path = f"/v1/jobs/{started(jobs).job_id}?wait=60"
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: feed.listeners > 0)
    eventually(lambda: not feed.listeners)


def test_one_who_does_not_read_holds_up_nobody_and_misses_no_end(
    own: tuple[httpx.Client, Feed], jobs: Jobs
) -> None:
    """Far more than all buffers on the way hold is told meanwhile."""
    client, _ = own
    attempt, long = started(jobs), "x" * 50_000
    with opened(client, attempt.job_id) as slow, watching(client, attempt.job_id) as events:
        next(events)
        for number in range(300):
            report(jobs, attempt, f"{number} {long}")
        jobs.store.succeed(attempt, [])
        assert list(events)[-1].short == "succeeded"
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            piece = slow.recv(1 << 20)
            assert piece
            received += piece
    assert len(received) < 200 * len(long)
    assert b'"status":"succeeded"' in received
