"""The connection to Redis or Valkey."""

from typing import Any, Final

from redis import Redis
from redis.asyncio import Redis as AwaitedRedis
from redis.asyncio.retry import Retry as AwaitedRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from schemas.settings import Settings

# Seconds.
CONNECT_TIMEOUT = 5.0
SOCKET_TIMEOUT = 10.0
HEALTH_CHECK_INTERVAL = 30

# 50 ms doubling to 1 s: about 2.5 s in all, longer than a server restart on local disk takes.
RETRIES = 6
BACKOFF = ExponentialBackoff(cap=1.0, base=0.05)

_OPTIONS: Final[dict[str, Any]] = {
    "decode_responses": False,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": SOCKET_TIMEOUT,
    "health_check_interval": HEALTH_CHECK_INTERVAL,
}


def connect(settings: Settings, socket_timeout: float = SOCKET_TIMEOUT) -> Redis:
    """A client that reconnects by itself and repeats a command whose answer was lost.

    Every script in `jobs` may run twice with the same arguments, so repeating is safe. Answers are
    bytes, as RQ needs them. A connection on which RQ blocks for jobs needs a `socket_timeout`
    above RQ's dequeue timeout; give such a worker a client of its own.
    """
    options = _OPTIONS | {"socket_timeout": socket_timeout}
    return Redis.from_url(_url(settings), retry=Retry(BACKOFF, RETRIES), **options)


def connect_awaited(settings: Settings) -> AwaitedRedis:
    """As `connect`, for one event loop. It connects when it is first used."""
    return AwaitedRedis.from_url(_url(settings), retry=AwaitedRetry(BACKOFF, RETRIES), **_OPTIONS)


def _url(settings: Settings) -> str:
    return settings.redis_url.get_secret_value()


def text(value: object) -> str:
    """A Redis answer that is a string, as a string."""
    return value.decode() if isinstance(value, bytes) else str(value)
