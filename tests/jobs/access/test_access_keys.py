from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError
from redis import Redis

from jobs import Jobs
from jobs.access.access_keys import AccessKeys
from jobs.keys import Keys
from schemas.access import KeyLimits, NewKey
from schemas.settings import Settings


@pytest.fixture
def access(jobs: Jobs, settings: Settings) -> AccessKeys:
    return AccessKeys(jobs.redis, settings)


def everything(redis: Redis) -> Iterator[bytes]:
    """Every key of the store and all that it holds."""
    for key in redis.scan_iter():
        yield key
        match redis.type(key):
            case b"string":
                yield redis.get(key)
            case b"hash":
                yield from (part for pair in redis.hgetall(key).items() for part in pair)
            case b"list":
                yield from redis.lrange(key, 0, -1)
            case b"set":
                yield from redis.smembers(key)
            case b"zset":
                yield from redis.zrange(key, 0, -1)
            case b"stream":
                yield repr(redis.xrange(key)).encode()
            case kind:
                raise AssertionError(kind)


def test_the_secret_is_nowhere_in_the_store(access: AccessKeys, jobs: Jobs) -> None:
    made = access.create(NewKey(name="me"))
    assert access.find(made.key) is not None
    secret = made.key.rpartition("_")[2].encode()
    held = list(everything(jobs.redis))
    assert any(made.about.id.encode() in piece for piece in held)
    for piece in held:
        for start in range(0, len(secret) - 8):
            assert secret[start : start + 8] not in piece


def test_a_key_is_found_by_its_text_alone(access: AccessKeys) -> None:
    made, other = (access.create(NewKey(name=name)) for name in ("a", "b"))
    assert made.about.limits == KeyLimits()
    found = access.find(made.key)
    assert found == made.about
    for wrong in ("", made.about.id, made.key[:-1], made.key.swapcase()):
        assert access.find(wrong) is None
    assert other.about.id != made.about.id


def test_the_right_id_with_another_secret_is_no_key(
    access: AccessKeys, jobs: Jobs, settings: Settings
) -> None:
    made, other = (access.create(NewKey(name=name)) for name in ("a", "b"))
    # As if what is stored of one were stored under the other's id.
    records = Keys(settings.key_prefix).access
    jobs.redis.hset(records, made.about.id, jobs.redis.hget(records, other.about.id))
    assert access.find(made.key) is None


def test_a_revoked_key_is_listed_and_found_no_more(access: AccessKeys) -> None:
    assert not access.exist()
    made = access.create(NewKey(name="me", limits=KeyLimits(queued_jobs=2)))
    revoked = access.revoke(made.about.id)
    assert revoked is not None and revoked.revoked_at is not None
    assert access.find(made.key) is None
    assert access.revoke(made.about.id) == revoked
    assert access.listed() == [revoked]
    assert access.exist()
    assert access.revoke("nobody") is None
    assert len(access.listed()) == 1


def test_use_is_noted_once_a_minute(access: AccessKeys, jobs: Jobs, settings: Settings) -> None:
    made = access.create(NewKey(name="me"))
    access.find(made.key)
    [first] = access.listed()
    assert first.last_used_at is not None
    access.find(made.key)
    assert access.listed() == [first]
    before = datetime.now(UTC) - timedelta(minutes=2)
    jobs.redis.hset(Keys(settings.key_prefix).access_used, made.about.id, before.isoformat())
    access.find(made.key)
    [later] = access.listed()
    assert later.last_used_at is not None and later.last_used_at >= first.last_used_at


def test_keys_are_listed_oldest_first(access: AccessKeys) -> None:
    made = [access.create(NewKey(name=str(number))).about for number in range(30)]
    assert access.listed() == made


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "two\nlines", "\x1b[31m"])
def test_a_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(ValidationError):
        NewKey(name=name)


@pytest.mark.parametrize("limit", ["requests_per_minute", "queued_jobs", "tokens_per_day"])
def test_a_limit_is_at_least_one(limit: str) -> None:
    for wrong in (0, -1, 1.5, 10**30):
        with pytest.raises(ValidationError):
            KeyLimits.model_validate({limit: wrong})
