"""Webhooks from the outbox to real receivers."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from jobs import Jobs
from jobs.keys import Keys
from schemas.settings import Settings
from service.webhooks import Deliverer, deliverer
from tests.service.webhooks.receivers import (
    SECRET,
    dead_url,
    ended,
    receiving,
    record,
    silent,
    talking,
    until,
)

SOON = (0.05,) * 3


@contextmanager
def delivering(settings: Settings, delays: Sequence[float] = SOON) -> Iterator[None]:
    """A deliverer that runs in an event loop of its own."""
    stop = Event()

    async def run() -> None:
        async with Deliverer(settings, delays).running():
            await asyncio.to_thread(stop.wait)

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def settled(jobs: Jobs, settings: Settings, job_id: str) -> list[dict[str, object]]:
    """The deliveries of a job once no further one is to come."""
    until(lambda: record(jobs, settings, job_id)["due"] is None, f"an end for {job_id}")
    deliveries: list[dict[str, object]] = record(jobs, settings, job_id)["deliveries"]
    return deliveries


def test_what_arrives_is_signed_and_says_what_became_of_the_job(
    jobs: Jobs, loopback: Settings
) -> None:
    with receiving() as inbox, delivering(loopback):
        job_id = ended(jobs, inbox.url + "?a=1%2F2&b=é", metadata={"run": "17"})
        before = record(jobs, loopback, job_id)["revision"]
        [delivery] = settled(jobs, loopback, job_id)
    [event], [received] = inbox.events(), inbox.received
    job = jobs.store.get(job_id)
    assert job is not None and job.finished_at is not None
    assert received.path == "/hook?a=1%2F2&b=%C3%A9"
    assert received.headers["webhook-id"] == f"msg_{job_id}"
    assert received.headers["content-type"] == "application/json"
    assert event["type"] == "job.succeeded"
    assert event["timestamp"] == event["data"]["finished_at"]
    assert event["data"]["metadata"] == {"run": "17"}
    assert event["data"]["links"]["result"] == f"/v1/jobs/{job_id}/result"
    assert (delivery["attempt"], delivery["status"]) == (1, 204)
    assert delivery["error"] is delivery["next_at"] is None
    after = record(jobs, loopback, job_id)
    assert after["revision"] == before + 1
    assert after["secret"] == ""


def test_a_receiver_that_fails_is_tried_until_it_answers(jobs: Jobs, loopback: Settings) -> None:
    def failing_twice(nth: int) -> tuple[int, dict[str, str]]:
        return (500 if nth < 2 else 200), {}

    with receiving(failing_twice) as inbox, delivering(loopback):
        job_id = ended(jobs, inbox.url)
        deliveries = settled(jobs, loopback, job_id)
    assert [one["status"] for one in deliveries] == [500, 500, 200]
    assert [one["attempt"] for one in deliveries] == [1, 2, 3]
    assert [one["next_at"] is None for one in deliveries] == [False, False, True]
    assert len({one.headers["webhook-id"] for one in inbox.received}) == 1
    assert len({one.body for one in inbox.received}) == 1
    assert len(inbox.events()) == 3


def test_a_receiver_that_never_answers_well_is_given_up(jobs: Jobs, loopback: Settings) -> None:
    with receiving(lambda nth: (404, {})) as inbox, delivering(loopback):
        dead = ended(jobs, dead_url())
        wrong = ended(jobs, inbox.url)
        assert [one["status"] for one in settled(jobs, loopback, wrong)] == [404] * 4
        lost = settled(jobs, loopback, dead)
    assert [one["status"] for one in lost] == [None] * 4
    assert lost[-1]["error"] == "it could not be connected to"
    assert lost[-1]["next_at"] is None
    assert record(jobs, loopback, dead)["secret"] == ""


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(
    jobs: Jobs, loopback: Settings, status: int
) -> None:
    with (
        receiving() as inside,
        receiving(lambda nth: (status, {"Location": inside.url})) as outside,
        delivering(loopback, ()),
    ):
        [delivery] = settled(jobs, loopback, ended(jobs, outside.url))
    assert delivery["status"] == status
    assert "redirects are not followed" in str(delivery["error"])
    assert inside.received == []


def test_410_ends_it(jobs: Jobs, loopback: Settings) -> None:
    with receiving(lambda nth: (410, {})) as inbox, delivering(loopback):
        job_id = ended(jobs, inbox.url)
        [delivery] = settled(jobs, loopback, job_id)
    assert delivery["status"] == 410
    assert len(inbox.received) == 1


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        *(("7000", 7000), ("99999999999", 86400), ("1" * 99, 86400)),
        *(("-5", 0), ("soon", 0), ("", 0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", 0),
    ],
)
def test_a_receiver_says_when_to_come_again(
    jobs: Jobs, loopback: Settings, asked: str, seconds: float
) -> None:
    busy = receiving(lambda nth: (503, {"Retry-After": asked}))
    with busy as inbox, delivering(loopback, (600,)):
        job_id = ended(jobs, inbox.url)
        until(lambda: bool(record(jobs, loopback, job_id)["deliveries"]), "an attempt")
    now, _ = jobs.redis.time()
    kept = record(jobs, loopback, job_id)
    assert [one["status"] for one in kept["deliveries"]] == [503]
    due = kept["due"] / 1000 - now
    expected = max(seconds, 600)
    assert 0.75 * expected < due < 1.25 * expected


def test_what_hangs_is_cut_off_and_starves_nobody(jobs: Jobs, loopback: Settings) -> None:
    slow = loopback.model_copy(update={"webhook_timeout": 600})
    with talking(silent) as hanging, receiving() as live, delivering(slow):
        for _ in range(200):
            ended(jobs, hanging.url)
        until(lambda: len(hanging.received) >= 8, "deliveries that hang")
        [delivery] = settled(jobs, loopback, ended(jobs, live.url))
    assert delivery["status"] == 204
    assert len(hanging.received) == 8
    # Those under way as those that waited are due at once for whoever comes next.
    now, _ = jobs.redis.time()
    assert jobs.redis.zcount(Keys(slow.key_prefix).outbox, 0, now * 1000 + 999) == 200


def test_time_is_up_for_a_silent_receiver(jobs: Jobs, loopback: Settings) -> None:
    with talking(silent) as hanging, delivering(loopback, ()):
        [delivery] = settled(jobs, loopback, ended(jobs, hanging.url))
    assert delivery["status"] is None
    assert delivery["error"] == "no answer within 2 seconds"


def test_a_job_that_was_deleted_is_not_told_of(jobs: Jobs, loopback: Settings) -> None:
    keys = Keys(loopback.key_prefix)
    with receiving() as inbox:
        gone, tomb = (ended(jobs, inbox.url) for _ in range(2))
        jobs.redis.delete(keys.record(gone))
        jobs.redis.hset(keys.record(tomb), "status", "deleted")
        with delivering(loopback):
            ended(jobs, inbox.url)
            until(lambda: jobs.redis.zcard(keys.outbox) == 0, "an empty outbox")
    assert len(inbox.received) == 1


def test_two_deliverers_send_each_webhook_once(jobs: Jobs, loopback: Settings) -> None:
    with receiving() as inbox, delivering(loopback), delivering(loopback):
        ids = {ended(jobs, inbox.url) for _ in range(60)}
        until(lambda: jobs.redis.zcard(Keys(loopback.key_prefix).outbox) == 0, "an empty outbox")
    assert sorted(one["data"]["id"] for one in inbox.events()) == sorted(ids)


def test_the_installations_secret_signs_for_those_who_bring_none(
    jobs: Jobs, loopback: Settings
) -> None:
    own = Settings(**loopback.model_dump() | {"webhook_secret": SECRET})
    with receiving() as inbox, delivering(own, ()):
        settled(jobs, own, ended(jobs, inbox.url, secret=None))
    assert len(inbox.events()) == 1
    with receiving() as inbox, delivering(loopback, ()):
        [delivery] = settled(jobs, own, ended(jobs, inbox.url, secret=None))
    assert "no secret" in str(delivery["error"])
    assert inbox.received == []


def test_it_ends_at_whatever_moment_it_is_told_to(
    loopback: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of turns of the event loop, while it looks into the outbox all the time."""
    monkeypatch.setattr(deliverer, "_POLL", 0)

    async def once(turns: int) -> None:
        async with Deliverer(loopback).running():
            for _ in range(turns):
                await asyncio.sleep(0)

    async def run() -> None:
        for turns in range(0, 60, 3):
            _, endless = await asyncio.wait([asyncio.create_task(once(turns))], timeout=5)
            if endless:  # let this run end, too
                monkeypatch.setattr(deliverer, "_POLL", 60)
            assert not endless, turns

    asyncio.run(run())
