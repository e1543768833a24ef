"""What comes with a request: idempotency keys, limits, secrets, and whose turn it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import Terms
from jobs.keys import Keys
from jobs.submission import ONCE_MS, KeyReused, QueueFull
from schemas.names import Departure, Status
from schemas.request import JobRequest
from tests.jobs.support import REQUEST

ONCE = Terms(owner="me", once="a-key")
OTHER = REQUEST.model_copy(update={"seed": 1})


def test_the_same_key_and_body_give_the_same_job(jobs):
    first, again = jobs.submit(REQUEST, ONCE), jobs.submit(REQUEST, ONCE)
    assert again.id == first.id
    assert (first.is_replay, again.is_replay) == (False, True)
    assert again.job == first.job
    assert jobs.indexes.queued() == jobs.queue.waiting() == [first.id]


def test_the_same_key_with_another_body_is_refused(jobs):
    first = jobs.submit(REQUEST, ONCE)
    with pytest.raises(KeyReused):
        jobs.submit(OTHER, ONCE)
    assert jobs.indexes.queued() == jobs.queue.waiting() == [first.id]


def test_keys_are_each_owners_own_and_are_forgotten_after_a_day(jobs, settings):
    first = jobs.submit(REQUEST, ONCE)
    assert jobs.submit(OTHER, Terms(owner="you", once="a-key")).id != first.id
    assert jobs.submit(OTHER, Terms(owner="me", once="b-key")).id != first.id
    [kept] = jobs.redis.keys(Keys(settings.key_prefix).once("you", "*"))
    assert 0 < jobs.redis.pttl(kept) <= ONCE_MS == 24 * 3600 * 1000
    assert b"a-key" not in kept


def test_of_many_at_once_one_makes_the_job(jobs):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: jobs.submit(REQUEST, ONCE), range(40)))
    assert len({one.id for one in made}) == 1
    assert sum(not one.is_replay for one in made) == 1
    assert len(jobs.queue.waiting()) == 1


def test_a_key_whose_job_is_gone_makes_no_other(jobs):
    first = jobs.submit(REQUEST, ONCE)
    jobs.remove(first.id, Departure.DELETED)
    again = jobs.submit(REQUEST, ONCE)
    assert (again.id, again.job) == (first.id, None)


def test_no_more_than_an_owner_may_have_waiting(jobs):
    few = Terms(owner="me", most_waiting=2)
    first, second = jobs.submit(REQUEST, few).id, jobs.submit(REQUEST, few).id
    with pytest.raises(QueueFull):
        jobs.submit(REQUEST, few)
    jobs.submit(REQUEST, Terms(owner="you", most_waiting=1))
    jobs.store.start(first, "w")
    third = jobs.submit(REQUEST, few).id
    jobs.cancel(second)
    assert jobs.submit(REQUEST, few).job.status is Status.QUEUED
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: is_full(jobs, few), range(12)))
    assert third in jobs.indexes.queued()


def is_full(jobs, terms):
    try:
        jobs.submit(REQUEST, terms)
    except QueueFull:
        return True
    return False


def test_a_refused_key_is_free_again(jobs):
    none = Terms(owner="me", once="a-key", most_waiting=1)
    jobs.submit(REQUEST, Terms(owner="me"))
    with pytest.raises(QueueFull):
        jobs.submit(REQUEST, none)
    assert not jobs.submit(OTHER, ONCE).is_replay


def test_a_secret_is_kept_and_not_shown(jobs, settings):
    secret = "whsec_" + "A" * 40
    asked = JobRequest(texts=["a"], webhook={"url": "https://example.org/", "secret": secret})
    job = jobs.submit(asked, ONCE).job
    assert job.request.webhook.url == "https://example.org/"
    assert job.request.webhook.secret is None
    record = Keys(settings.key_prefix).record(job.id)
    assert jobs.redis.hget(record, "webhook_secret").decode() == secret
    assert secret.encode() not in jobs.redis.hget(record, "request")
    # It is part of what an idempotency key stands for.
    other = asked.webhook.model_copy(update={"secret": "whsec_" + "B" * 40})
    with pytest.raises(KeyReused):
        jobs.submit(asked.model_copy(update={"webhook": other}), ONCE)


def test_one_callers_many_jobs_do_not_keep_anothers_one_waiting(jobs):
    flood = [jobs.submit(REQUEST, Terms(share="one")).id for _ in range(50)]
    for job_id in flood[:10]:
        jobs.store.start(job_id, "w")
    other = jobs.submit(REQUEST, Terms(share="two"))
    assert other.job.queue_position <= 1
    third = jobs.submit(REQUEST, Terms(share="three"))
    assert third.job.queue_position <= 2


def test_callers_take_turns_and_each_keeps_its_order(jobs):
    one = [jobs.submit(REQUEST, Terms(share="one")).id for _ in range(3)]
    two = [jobs.submit(REQUEST, Terms(share="two")).id for _ in range(3)]
    order = [one[0], two[0], one[1], two[1], one[2], two[2]]
    assert jobs.indexes.queued() == order
    # Who comes back after its jobs ran is not ahead of those that wait.
    for job_id in order[:5]:
        jobs.store.start(job_id, "w")
    again = jobs.submit(REQUEST, Terms(share="one")).id
    assert jobs.indexes.queued() == [two[2], again]


def test_whoever_cancels_gains_no_place(jobs):
    mine = [jobs.submit(REQUEST, Terms(share="one")).id for _ in range(3)]
    jobs.cancel(mine[2])
    last = jobs.submit(REQUEST, Terms(share="one")).id
    assert jobs.indexes.queued() == [mine[0], mine[1], last]
    jobs.cancel(mine[0])
    last = [last, jobs.submit(REQUEST, Terms(share="one")).id]
    assert jobs.indexes.queued() == [mine[1], *last]


@pytest.mark.parametrize("started", [0, 2])
def test_whoever_withdraws_a_batch_does_not_wait_behind_it(jobs, settings, started):
    batch = [jobs.submit(REQUEST, Terms(share="one")).id for _ in range(20)]
    others = [jobs.submit(REQUEST, Terms(share="two")).id for _ in range(3)]
    for job_id in batch[:started]:
        jobs.store.start(job_id, "w")
    for job_id in batch:
        jobs.cancel(job_id)
    again = jobs.submit(REQUEST, Terms(share="one")).id
    assert jobs.indexes.queued().index(again) <= 1 + started
    assert set(jobs.indexes.queued()) == {again, *others}
    jobs.cancel(again)
    assert not jobs.redis.hexists(Keys(settings.key_prefix).places, "one"), "it keeps nothing"
