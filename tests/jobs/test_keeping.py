"""How long jobs are kept, and what makes room for what."""

import time

import pytest

from jobs import Terms
from jobs.keys import Keys
from jobs.reaper import Reaper, Sweep
from schemas.names import Departure, Status
from schemas.problem import Problem, ProblemType
from tests.jobs.support import REQUEST, events, hasty
from tests.jobs.test_sharing import ALIKE, bytes_of, compute

HOUR = 3600


@pytest.fixture
def brief(settings):
    """The installation as it is where jobs are kept for an hour."""
    opened = hasty(settings.model_copy(update={"result_ttl": HOUR}), lease_seconds=15)
    yield opened
    opened.close()


def pass_time(jobs, settings, seconds):
    """As if what has ended had done so earlier."""
    ended = Keys(settings.key_prefix).ended
    for job_id, at in jobs.redis.zrange(ended, 0, -1, withscores=True):
        jobs.redis.zadd(ended, {job_id: at - 1000 * seconds})


def standing(jobs, job_id):
    return jobs.store.standing(job_id).status


def test_what_has_ended_expires_and_is_told_from_what_never_was(brief, settings):
    done, failed, cancelled = (brief.submit(REQUEST).id for _ in range(3))
    compute(brief, done)
    brief.store.fail(
        brief.store.start(failed, "w"), Problem.of(ProblemType.NOT_FINITE, "the logits are NaN")
    )
    brief.cancel(cancelled)
    waiting = brief.submit(REQUEST).id
    job = brief.store.get(done)
    assert (job.expires_at - job.finished_at).total_seconds() == HOUR
    assert Reaper(brief).sweep().expired == ()
    pass_time(brief, settings, HOUR)
    assert set(Reaper(brief).sweep().expired) == {done, failed, cancelled}
    assert brief.store.get(done) is None
    assert standing(brief, done) is Departure.EXPIRED
    assert standing(brief, waiting) is Status.QUEUED
    assert brief.store.standing("0" * 26) is None


def test_what_is_pinned_stays_until_it_is_no_more(brief, settings):
    job_id = brief.submit(REQUEST).id
    brief.store.pin(job_id, True)
    compute(brief, job_id)
    assert brief.store.get(job_id).pinned
    assert brief.store.get(job_id).expires_at is None
    pass_time(brief, settings, HOUR)
    assert Reaper(brief, most_bytes=1).sweep() == Sweep()
    time.sleep(0.01)
    brief.store.pin(job_id, False)
    job = brief.store.get(job_id)
    assert (job.expires_at - job.finished_at).total_seconds() > HOUR
    assert Reaper(brief).sweep().expired == ()
    brief.store.pin(job_id, False)
    assert brief.store.get(job_id) == job
    pass_time(brief, settings, HOUR)
    assert Reaper(brief).sweep().expired == (job_id,)


@pytest.mark.parametrize("why", [Departure.EXPIRED, Departure.EVICTED])
def test_a_pin_holds_though_the_job_was_chosen_to_go_before(jobs, why):
    job_id = jobs.submit(REQUEST).id
    compute(jobs, job_id)
    jobs.store.pin(job_id, True)
    assert not jobs.remove(job_id, why)
    assert bytes_of(jobs, job_id) == b"bytes"
    assert jobs.remove(job_id, Departure.DELETED)


@pytest.mark.parametrize("is_over", [False, True])
def test_a_pin_changes_what_is_polled_once(jobs, settings, is_over):
    job_id = jobs.submit(REQUEST).id
    if is_over:
        compute(jobs, job_id)
    record = Keys(settings.key_prefix).record(job_id)
    before, told = jobs.redis.hget(record, "revision"), events(jobs, settings, job_id)
    jobs.store.pin(job_id, True)
    jobs.store.pin(job_id, True)
    assert int(jobs.redis.hget(record, "revision")) == int(before) + 1
    # Nothing follows the event of its end.
    assert len(events(jobs, settings, job_id)) == len(told) + (not is_over)


def test_nothing_expires_where_the_settings_say_so(settings):
    kept = hasty(settings.model_copy(update={"result_ttl": 0}), lease_seconds=15)
    job_id = kept.submit(REQUEST).id
    compute(kept, job_id)
    assert kept.store.get(job_id).expires_at is None
    assert Reaper(kept).sweep().expired == ()
    # The budget holds for them all the same.
    assert Reaper(kept, most_bytes=4).sweep().evicted == (job_id,)
    kept.close()


def test_the_oldest_make_room_until_the_rest_fits(jobs):
    ids = [jobs.submit(REQUEST).id for _ in range(5)]
    for job_id in ids:
        compute(jobs, job_id)
        time.sleep(0.002)
    jobs.store.pin(ids[0], True)
    assert Reaper(jobs, most_bytes=25).sweep().evicted == ()
    assert Reaper(jobs, most_bytes=14).sweep().evicted == (ids[1], ids[2], ids[3])
    assert standing(jobs, ids[1]) is Departure.EVICTED
    assert bytes_of(jobs, ids[0]) == bytes_of(jobs, ids[4]) == b"bytes"


def test_nothing_goes_that_makes_no_room(jobs):
    cancelled = jobs.submit(REQUEST).id
    jobs.cancel(cancelled)
    first, alike = (jobs.submit(REQUEST, ALIKE).id for _ in range(2))
    compute(jobs, first)
    jobs.store.pin(first, True)
    assert Reaper(jobs, most_bytes=1).sweep().evicted == ()
    jobs.store.pin(first, False)
    assert set(Reaper(jobs, most_bytes=1).sweep().evicted) == {first, alike}
    assert jobs.store.get(cancelled) is not None


def test_what_a_deleted_job_kept_makes_room(jobs):
    first, alike = (jobs.submit(REQUEST, ALIKE).id for _ in range(2))
    compute(jobs, first)
    jobs.store.pin(first, True)
    assert Reaper(jobs, most_bytes=1).sweep().evicted == ()
    jobs.remove(first, Departure.DELETED)
    assert Reaper(jobs, most_bytes=1).sweep().evicted == (alike,)


def test_what_ended_before_it_was_noted_makes_room_too(jobs, settings):
    keys = Keys(settings.key_prefix)
    pinned, *others = (jobs.submit(REQUEST).id for _ in range(3))
    for job_id in (pinned, *others):
        compute(jobs, job_id)
    jobs.store.pin(pinned, True)
    # More than are looked at in one go; they hold nothing.
    [(_, at)] = jobs.redis.zrange(keys.ended, 0, 0, withscores=True)
    jobs.redis.zadd(keys.ended, {f"{number:026}": at for number in range(3000)})
    jobs.redis.delete(keys.spare)
    one = Reaper(jobs, most_bytes=5)
    assert set(one.sweep().evicted) == set(others)
    assert one.excess() == 0
    assert standing(jobs, pinned) is Status.SUCCEEDED


def test_a_tombstone_goes_in_the_end(settings):
    opened = hasty(settings.model_copy(update={"tombstone_ttl": 1}), lease_seconds=15)
    job_id = opened.submit(REQUEST, Terms(owner="me")).id
    opened.remove(job_id, Departure.DELETED)
    assert opened.store.standing(job_id).owner == "me"
    time.sleep(1.1)
    assert opened.store.standing(job_id) is None
    assert not list(opened.redis.scan_iter(f"{settings.key_prefix}:*{job_id}*"))
    opened.close()
