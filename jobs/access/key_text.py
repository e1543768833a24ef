"""The text of an API key: `msk_{id}_{secret}{checksum}`.

The prefix and the checksum (CRC-32 of all before it, in base 62) let a scanner of leaked secrets
recognise a key with certainty, and a key with a typing error be refused without asking the store.
"""

import re
import secrets
import string
import zlib

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 10
# 62^43 > 2^256.
_SECRET_LENGTH = 43
# 62^6 > 2^32.
_CHECKSUM_LENGTH = 6

_KEY = re.compile(
    rf"msk_([0-9A-Za-z]{{{_ID_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)


def new_key_text() -> str:
    """A fresh key of 256 random bits."""
    start = f"msk_{_random(_ID_LENGTH)}_{_random(_SECRET_LENGTH)}"
    return start + _checksum(start)


def id_of(text: str) -> str | None:
    """The id in a key; None for what cannot be one."""
    found = _KEY.fullmatch(text)
    if found is None or _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]:
        return None
    return found[1]


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _checksum(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
