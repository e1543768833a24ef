"""The outbox: who may send, and what is recorded of it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobs import Jobs
from jobs.keys import Keys
from jobs.outbox import RETRY_DELAYS, Due, Held, Outbox, Outcome, Parcel
from schemas.names import Departure
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings

SECRET = "whsec_" + "A" * 32
URL = "https://example.org/hook"


def submitted(jobs: Jobs, **rest: Any) -> str:
    webhook = {"url": URL, "secret": SECRET}
    return jobs.submit(JobRequest(**{"texts": ["a"], "webhook": webhook} | rest)).id


def succeeded(jobs: Jobs, **rest: Any) -> str:
    job_id = submitted(jobs, **rest)
    attempt = jobs.store.start(job_id, "worker-1")
    assert attempt is not None
    jobs.store.succeed(attempt, [])
    return job_id


def using(settings: Settings, act: Callable[[Outbox], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        outbox = Outbox(settings)
        try:
            return await act(outbox)
        finally:
            await outbox.close()

    return asyncio.run(run())


async def claimed(outbox: Outbox) -> Parcel:
    [due] = await outbox.addressed(await outbox.hold(10))
    parcel = await outbox.claim(due)
    assert parcel is not None
    return parcel


def due_in(jobs: Jobs, settings: Settings, job_id: str) -> float | None:
    """Seconds until the job is due."""
    score = jobs.redis.zscore(Keys(settings.key_prefix).outbox, job_id)
    seconds, micros = jobs.redis.time()
    return None if score is None else score / 1000 - seconds - micros / 1e6


def lapse(jobs: Jobs, settings: Settings, job_id: str) -> None:
    """Let the time pass for which a job was held or claimed, as far as others see."""
    jobs.redis.zadd(Keys(settings.key_prefix).outbox, {job_id: 1})
    # The clock of those who hold it next has gone on, by a millisecond at least.
    time.sleep(0.002)


def field(jobs: Jobs, settings: Settings, job_id: str, name: str) -> str:
    return (jobs.redis.hget(Keys(settings.key_prefix).record(job_id), name) or b"").decode()


def test_what_a_parcel_holds(jobs: Jobs, settings: Settings) -> None:
    job_id = succeeded(jobs, metadata={"run": "17"})
    parcel = using(settings, claimed)
    job = jobs.store.get(job_id)
    assert job is not None
    assert (parcel.job_id, parcel.url, parcel.attempt) == (job_id, URL, 1)
    assert parcel.secret.get_secret_value() == SECRET
    assert SECRET not in repr(parcel)
    data = parcel.event.data
    assert parcel.event.type == "job.succeeded"
    assert parcel.event.timestamp == data.finished_at == job.finished_at
    assert (data.created_at, data.links, data.metadata) == (
        job.created_at,
        job.links,
        {"run": "17"},
    )


def test_every_way_to_end_is_told_of(jobs: Jobs, settings: Settings) -> None:
    problem = Problem.of(ProblemType.OUT_OF_MEMORY, "The job needs 9 GiB.")
    cancelled, failed = submitted(jobs, reuse=False), submitted(jobs, reuse=False, seed=1)
    jobs.cancel(cancelled)
    attempt = jobs.store.start(failed, "worker-1")
    assert attempt is not None
    jobs.store.fail(attempt, problem)

    async def both(outbox: Outbox) -> list[Parcel | None]:
        return [await outbox.claim(due) for due in await outbox.addressed(await outbox.hold(9))]

    events = {parcel.job_id: parcel.event for parcel in using(settings, both)}
    assert events[cancelled].type == "job.cancelled"
    assert events[cancelled].data.error is None
    assert events[failed].type == "job.failed"
    assert events[failed].data.error == problem


def test_a_job_is_held_and_claimed_by_one(jobs: Jobs, settings: Settings) -> None:
    job_id = succeeded(jobs)

    async def act(outbox: Outbox) -> None:
        [first] = await outbox.addressed(await outbox.hold(10))
        assert await outbox.hold(10) == []
        lapse(jobs, settings, job_id)
        [second] = await outbox.addressed(await outbox.hold(10))
        assert await outbox.claim(first) is None
        assert await outbox.claim(second) is not None
        assert await outbox.claim(second) is None
        assert await outbox.hold(10) == []

    using(settings, act)
    left = due_in(jobs, settings, job_id)
    assert left is not None
    assert settings.webhook_timeout < left < settings.webhook_timeout + 30


def test_a_page_holds_the_longest_due_first(jobs: Jobs, settings: Settings) -> None:
    ids = [succeeded(jobs, seed=seed) for seed in range(5)]
    outbox = Keys(settings.key_prefix).outbox
    jobs.redis.zadd(outbox, {job_id: 9 - place for place, job_id in enumerate(ids)})
    jobs.redis.zadd(outbox, {ids[2]: 2**52})
    held = using(settings, lambda outbox: outbox.hold(3))
    assert [job.job_id for job in held] == [ids[4], ids[3], ids[1]]


@pytest.mark.parametrize("attempt", range(1, 9))
def test_delays_grow_and_end(jobs: Jobs, settings: Settings, attempt: int) -> None:
    job_id = succeeded(jobs)
    failed = Outcome(500, "it answered 500")

    async def act(outbox: Outbox) -> None:
        for _ in range(attempt):
            lapse(jobs, settings, job_id)
            await outbox.settle(await claimed(outbox), failed)

    using(settings, act)
    job, left = jobs.store.get(job_id), due_in(jobs, settings, job_id)
    assert job is not None
    assert [one.attempt for one in job.deliveries] == list(range(1, attempt + 1))
    if attempt <= len(RETRY_DELAYS):
        assert left is not None and job.deliveries[-1].next_at is not None
        assert 0.75 < left / RETRY_DELAYS[attempt - 1] < 1.25
        assert field(jobs, settings, job_id, "webhook_secret") == SECRET
    else:
        assert left is None
        assert job.deliveries[-1].next_at is None
        assert field(jobs, settings, job_id, "webhook_secret") == ""


def test_an_attempt_is_recorded_once(jobs: Jobs, settings: Settings) -> None:
    job_id = succeeded(jobs)

    async def act(outbox: Outbox) -> None:
        parcel = await claimed(outbox)
        lapse(jobs, settings, job_id)
        late = await claimed(outbox)
        await outbox.settle(late, Outcome(200))
        before = field(jobs, settings, job_id, "revision")
        await outbox.settle(parcel, Outcome(error="lost"))
        await outbox.settle(late, Outcome(200))
        assert field(jobs, settings, job_id, "revision") == before

    using(settings, act)
    deliveries = json.loads(field(jobs, settings, job_id, "deliveries"))
    assert [one["status"] for one in deliveries] == [200]
    assert due_in(jobs, settings, job_id) is None


def test_what_was_deleted_is_neither_claimed_nor_recorded(jobs: Jobs, settings: Settings) -> None:
    first, second = succeeded(jobs, seed=1), succeeded(jobs, seed=2)

    async def act(outbox: Outbox) -> None:
        held = await outbox.addressed(await outbox.hold(10))
        jobs.remove(first, Departure.DELETED)
        parcels = [await outbox.claim(due) for due in held]
        [parcel] = [parcel for parcel in parcels if parcel]
        assert parcel.job_id == second
        jobs.remove(second, Departure.DELETED)
        await outbox.settle(parcel, Outcome(error="lost"))
        assert await outbox.addressed([Held(first, 1), Held(second, 1)]) == []

    using(settings, act)
    assert jobs.redis.zcard(Keys(settings.key_prefix).outbox) == 0
    assert field(jobs, settings, second, "deliveries") == ""


def test_what_is_released_is_due_at_once(jobs: Jobs, settings: Settings) -> None:
    ids = {succeeded(jobs, seed=seed) for seed in range(4)}

    async def act(outbox: Outbox) -> None:
        held = await outbox.addressed(await outbox.hold(10))
        lost, *others = held
        lapse(jobs, settings, lost.job_id)
        [taken] = await outbox.hold(10)
        await outbox.release(held)
        assert {job.job_id for job in await outbox.hold(10)} == ids - {taken.job_id}
        assert len(others) == 3

    using(settings, act)
    using(settings, lambda outbox: outbox.release([]))


def test_a_job_that_runs_again_is_not_told_of(jobs: Jobs, settings: Settings) -> None:
    job_id = submitted(jobs)
    lapse(jobs, settings, job_id)
    assert using(settings, lambda outbox: outbox.claim(Due(job_id, 1, URL))) is None
    assert due_in(jobs, settings, job_id) is None
