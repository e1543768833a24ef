"""Job ids and fencing tokens."""

import re
import secrets
import threading
import time

# Crockford's base32: no I, L, O or U, so an id survives being read aloud.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ID_LENGTH = 26

_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TOKEN = re.compile(r"[0-9a-f]{24}")
_COUNTER_BITS = 16
_RANDOM_BITS = 64


class JobIds:
    """Makes job ids in the ULID text format (github.com/ulid/spec), ascending within a process.

    48 bits of Unix milliseconds, 16 bits that count ids of the same millisecond, 64 random bits.
    The counter keeps the order without ever making one id guessable from another. A clock that
    steps back does not break the order: the last millisecond is then used on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> str:
        """A new id."""
        with self._lock:
            fresh = (time.time_ns() // 1_000_000) << _COUNTER_BITS
            self._last = max(fresh, self._last + 1)
            head = self._last
        return _encode(head << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def is_job_id(text: str) -> bool:
    """Whether a string, from a URL for example, has the form of a job id."""
    return _ID.fullmatch(text) is not None


def new_token() -> str:
    """A fresh fencing token for one attempt."""
    return secrets.token_hex(12)


def is_token(text: str) -> bool:
    """Whether a string has the form of a fencing token."""
    return _TOKEN.fullmatch(text) is not None


def _encode(value: int) -> str:
    return "".join(ALPHABET[value >> 5 * i & 31] for i in reversed(range(ID_LENGTH)))
