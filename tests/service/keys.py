"""API keys for the tests of the service."""

from jobs import Jobs
from jobs.access.access_keys import AccessKeys
from schemas.access import IssuedKey, KeyLimits, NewKey
from schemas.settings import Settings


def make_key(jobs: Jobs, settings: Settings, **limits: int) -> IssuedKey:
    """A key with these limits and no others."""
    new = NewKey(name="a test", limits=KeyLimits(**limits))
    return AccessKeys(jobs.redis, settings).create(new)


def bearer(key: IssuedKey | str) -> dict[str, str]:
    """The header that presents a key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.key}"}
