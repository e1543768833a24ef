import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import Jobs, Terms, open_jobs
from jobs.access.limits import QUEUED_JOBS, TOKENS, Left, Limits
from jobs.keys import Keys
from jobs.submission import TokensSpent
from schemas.access import KeyLimits
from schemas.settings import DAY, Settings
from tests.jobs.support import REQUEST


@pytest.fixture
def limits(jobs: Jobs, settings: Settings) -> Limits:
    return Limits(jobs.redis, settings)


@pytest.fixture
def age(jobs: Jobs, settings: Settings) -> Callable[[float], None]:
    """Make the requests that were counted so many seconds older."""

    def make_older(seconds: float) -> None:
        name = Keys(settings.key_prefix).requests("me")
        for place, moment in enumerate(jobs.redis.lrange(name, 0, -1)):
            jobs.redis.lset(name, place, str(int(moment) - int(seconds * 1000)))

    return make_older


def test_exactly_as_many_requests_pass_as_may(settings: Settings) -> None:
    opened = [open_jobs(settings) for _ in range(2)]
    counters = [Limits(jobs.redis, settings) for jobs in opened]
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(counters[turn % 2].request, "me", 10) for turn in range(100)]
        passed = [one.result()[0] for one in asked]
    assert sum(passed) == 10
    for jobs in opened:
        jobs.close()


def test_what_is_left_falls_to_nothing(limits: Limits) -> None:
    told = [limits.request("me", 3) for _ in range(5)]
    assert [passes for passes, _ in told] == [True, True, True, False, False]
    assert [left.units for _, left in told] == [2, 1, 0, 0, 0]
    assert all(left.more_in is not None and 55 <= left.more_in <= 60 for _, left in told)
    assert limits.request("other", 3) == (True, Left(2, 60))


def test_the_window_slides(limits: Limits, age: Callable[[float], None]) -> None:
    for step in range(6):
        passes, _ = limits.request("me", 6)
        assert passes
        if step < 5:
            age(10)
    # The first came 50 s ago.
    passes, left = limits.request("me", 6)
    assert (passes, left.units) == (False, 0)
    assert left.more_in in (9, 10)
    age(10)
    assert [limits.request("me", 6)[0] for _ in range(2)] == [True, False]
    age(30)
    assert [limits.request("me", 6)[0] for _ in range(4)] == [True, True, True, False]
    age(61)
    passes, left = limits.request("me", 6)
    assert (passes, left.units) == (True, 5)


def test_the_window_is_that_of_a_plain_count(limits: Limits, age: Callable[[float], None]) -> None:
    draw, came = random.Random(1), list[int]()
    for _ in range(150):
        if draw.random() < 0.3:
            seconds = draw.choice((1, 5, 20, 59, 60))
            age(seconds)
            came = [moment - seconds for moment in came]
        else:
            came = [moment for moment in came if moment > -60]
            passes, left = limits.request("me", 7)
            assert passes == (len(came) < 7)
            came += [0] * passes
            assert left.units == 7 - len(came)
            assert left.more_in in (60 + came[0], 59 + came[0], 1)


def test_a_key_at_rest_leaves_nothing_behind(
    limits: Limits, jobs: Jobs, settings: Settings
) -> None:
    limits.request("me", 6)
    assert 0 < jobs.redis.pttl(Keys(settings.key_prefix).requests("me")) <= 60_000


def terms(tokens: int, **more: str) -> Terms:
    return Terms(owner="me", tokens=tokens, most_tokens=100, **more)


def spent(jobs: Jobs, settings: Settings) -> int:
    today = int(jobs.redis.time()[0]) // DAY
    return int(jobs.redis.get(Keys(settings.key_prefix).tokens("me", today)) or 0)


def test_tokens_are_spent_until_the_day_ends(jobs: Jobs, settings: Settings) -> None:
    jobs.submit(REQUEST, terms(60))
    with pytest.raises(TokensSpent) as refused:
        jobs.submit(REQUEST, terms(41))
    assert refused.value.left == 40
    assert 0 < refused.value.more_in <= DAY
    assert spent(jobs, settings) == 60
    jobs.submit(REQUEST, terms(40))
    with pytest.raises(TokensSpent):
        jobs.submit(REQUEST, terms(1))
    jobs.submit(REQUEST, Terms(owner="other", tokens=100, most_tokens=100))
    jobs.submit(REQUEST, Terms(owner="me", tokens=100))
    assert len(jobs.indexes.queued()) == 4


def test_a_shared_or_repeated_job_costs_no_tokens(jobs: Jobs, settings: Settings) -> None:
    first = jobs.submit(REQUEST, terms(100, fingerprint="f", once="k"))
    again = jobs.submit(REQUEST, terms(100, fingerprint="f", once="k"))
    assert again.is_replay and again.id == first.id
    shared = jobs.submit(REQUEST, terms(100, fingerprint="f")).job
    assert shared is not None and shared.reused_from == first.id
    assert spent(jobs, settings) == 100


def test_neither_a_full_queue_nor_a_cancelled_job_moves_tokens(
    jobs: Jobs, settings: Settings
) -> None:
    first = jobs.submit(REQUEST, terms(60))
    jobs.cancel(first.id)
    assert spent(jobs, settings) == 60
    with pytest.raises(TokensSpent):
        jobs.submit(REQUEST, terms(60, once="k"))
    # What was refused is not remembered as made.
    assert not jobs.submit(REQUEST, terms(40, once="k")).is_replay


def test_racing_jobs_spend_no_more_than_there_is(jobs: Jobs, settings: Settings) -> None:
    def submit(_: int) -> bool:
        try:
            jobs.submit(REQUEST, terms(10))
        except TokensSpent:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(submit, range(40))) == 10
    assert spent(jobs, settings) == 100


def test_what_is_left_for_jobs(jobs: Jobs, limits: Limits) -> None:
    jobs.submit(REQUEST, terms(30))
    both = limits.of_jobs("me", KeyLimits(tokens_per_day=100, queued_jobs=3))
    assert both[TOKENS].units == 70
    assert both[QUEUED_JOBS] == Left(2, None)
    assert limits.of_jobs("me", KeyLimits(tokens_per_day=20))[TOKENS].units == 0
    assert limits.of_jobs("me", KeyLimits(requests_per_minute=1)) == {}
