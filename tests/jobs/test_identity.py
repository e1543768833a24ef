from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import identity
from jobs.identity import JobIds, is_job_id, is_token, new_token


def test_ids_ascend_and_have_the_form():
    ids = JobIds()
    made = [ids.next() for _ in range(5000)]
    assert made == sorted(made)
    assert all(is_job_id(one) for one in made)


def test_ids_of_several_threads_are_all_different():
    ids = JobIds()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.next(), range(4000)))
    assert len(set(made)) == len(made)


def test_an_id_begins_with_its_time(monkeypatch):
    # The example of the ULID specification: 1469918176385 ms is 01ARYZ6S41.
    monkeypatch.setattr(identity.time, "time_ns", lambda: 1469918176385 * 1_000_000)
    assert JobIds().next().startswith("01ARYZ6S41")


def test_a_clock_that_steps_back_keeps_the_order(monkeypatch):
    now = [2_000_000_000_000]
    monkeypatch.setattr(identity.time, "time_ns", lambda: now[0] * 1_000_000)
    ids = JobIds()
    first = ids.next()
    now[0] -= 3_600_000
    assert ids.next() > first


def test_the_tail_is_not_a_counter(monkeypatch):
    monkeypatch.setattr(identity.time, "time_ns", lambda: 10**18)
    ids = JobIds()
    tails = {ids.next()[-12:] for _ in range(100)}
    assert len(tails) == 100
    assert len({tail[0] for tail in tails}) > 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "../../etc/passwd",
        "01KAQ3V9Q0Z7X3M5B8F2N6T4RC\n",
        "01kaq3v9q0z7x3m5b8f2n6t4rc",
        "81KAQ3V9Q0Z7X3M5B8F2N6T4RC",
        "01KAQ3V9Q0Z7X3M5B8F2N6T4RCX",
        "01KAQ3V9Q0Z7X3M5B8F2N6T4RU",
        "\ud800" * 26,
        "\x00" * 26,
    ],
)
def test_what_is_no_id(text):
    assert not is_job_id(text)


def test_tokens():
    assert is_token(new_token())
    assert new_token() != new_token()
    assert not is_token("../" * 8)
    assert not is_token(new_token() + "\n")
