"""Connections that redis-py opens and sets up and on which others then speak (decision 0013)."""

import asyncio

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.maint_notifications import MaintNotificationsConfig

from jobs.connect import BACKOFF, CONNECT_TIMEOUT, SOCKET_TIMEOUT


async def open_wire(url: str, resp: int = 2) -> asyncio.StreamWriter:
    """A connection on which nothing is under way, with all that a URL can ask for.

    That is address, TLS, user, password and database; `resp` is the version of the protocol that is
    then spoken on it. The writer has to be held as long as its transport is used: a stream that
    nobody holds closes it. Raises RedisError.
    """
    pool = ConnectionPool.from_url(
        url,
        protocol=resp,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=SOCKET_TIMEOUT,
        retry=Retry(BACKOFF, 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    connection = pool.make_connection()  # type: ignore[no-untyped-call]
    await connection.connect()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # redis-py sends with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that
        # comes as it completes (python/cpython#86296).
        await connection.disconnect(nowait=True)
        raise asyncio.CancelledError
    # From here on the connection is the caller's alone, which redis-py has no public way to say.
    writer: asyncio.StreamWriter
    writer, connection._writer = connection._writer, None
    return writer


def bulk(text: str) -> bytes:
    """A string as RESP writes it."""
    encoded = text.encode()
    return b"$%d\r\n%b\r\n" % (len(encoded), encoded)


def command(*words: str) -> bytes:
    """A command as RESP writes it."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))
