"""How much a key may do: requests in a minute, tokens in a day, jobs that wait.

Requests are counted here, in a window that slides: at most so many in any 60 seconds, over all
processes of the API. The moment of each is kept, for only that is exact; one round trip decides.
Tokens and waiting jobs are counted where a job is created (`jobs.transitions`), in one step with
its creation, so that a job that is refused or shares a result costs none.
"""

from dataclasses import dataclass

from redis import Redis

from jobs.keys import Keys
from jobs.scripts import script
from schemas.access import KeyLimits
from schemas.settings import DAY, Settings

MINUTE = 60
REQUESTS, TOKENS, QUEUED_JOBS = "requests", "tokens", "queued-jobs"
_SCRIPT = script("requests.lua", "jobs.access")


@dataclass(frozen=True)
class Left:
    """What a key may still do under one of its limits, and in how many seconds it may do more."""

    units: int
    more_in: int | None


class Limits:
    """Counts what keys do."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)

    def request(self, owner: str, most: int) -> tuple[bool, Left]:
        """Count a request if a key may have `most` in a minute; whether it may, and what is left.

        One that is refused is not counted. Where the answer is lost on its way and asked for again,
        a request counts twice.
        """
        passes, left, more_ms = self._redis.eval(
            _SCRIPT, 1, self._keys.requests(owner), most, MINUTE * 1000
        )
        return bool(passes), Left(int(left), _seconds(int(more_ms)))

    def of_jobs(self, owner: str, limits: KeyLimits) -> dict[str, Left]:
        """What is left of a day's tokens and of jobs that may wait, where they are limited."""
        now = int(self._redis.time()[0])
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keys.tokens(owner, now // DAY))
            pipe.hget(self._keys.waiting, owner)
            spent, waiting = (int(value or 0) for value in pipe.execute())
        left = {}
        if limits.tokens_per_day is not None:
            left[TOKENS] = Left(max(0, limits.tokens_per_day - spent), DAY - now % DAY)
        if limits.queued_jobs is not None:
            left[QUEUED_JOBS] = Left(max(0, limits.queued_jobs - waiting), None)
        return left


def _seconds(milliseconds: int) -> int:
    """Whole seconds after which it is certain."""
    return max(1, -(-milliseconds // 1000))
