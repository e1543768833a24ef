"""API keys in the store: who may call.

Of a key only its SHA-256 is kept. A slow hash is for passwords, which people choose and others can
guess: 256 random bits cannot be tried out, and each call would pay for it.
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from redis import Redis

from jobs.access.key_text import id_of, new_key_text
from jobs.connect import text
from jobs.keys import Keys
from schemas.access import AccessKey, IssuedKey, KeyLimits, NewKey
from schemas.base import Contract
from schemas.settings import Settings

_USE_IS_TOLD_EVERY = timedelta(minutes=1)


class _Record(Contract):
    """What of a key never changes."""

    digest: str
    name: str
    created_at: datetime
    limits: KeyLimits


class AccessKeys:
    """The keys of one installation. One that was made is never forgotten, only revoked."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)

    def create(self, new: NewKey) -> IssuedKey:
        """Make a key. Its text is in the answer and nowhere else."""
        created = self._now()
        while True:
            key = new_key_text()
            key_id = id_of(key)
            assert key_id is not None
            record = _Record(
                digest=_digest(key), name=new.name, created_at=created, limits=new.limits
            )
            if self._redis.hsetnx(self._keys.access, key_id, record.model_dump_json()):
                return IssuedKey(
                    key=key,
                    about=_shown(key_id, record, None, None),
                    is_first=self._redis.hlen(self._keys.access) == 1,
                )

    def listed(self) -> list[AccessKey]:
        """Every key that was ever made, oldest first."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys.access)
            pipe.hgetall(self._keys.access_revoked)
            pipe.hgetall(self._keys.access_used)
            records, revoked, used = pipe.execute()
        found = [
            _shown(
                text(key_id),
                _Record.model_validate_json(record),
                revoked.get(key_id),
                used.get(key_id),
            )
            for key_id, record in records.items()
        ]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> AccessKey | None:
        """End a key for good; one that was revoked before keeps its date. None: no such key."""
        if not self._redis.hexists(self._keys.access, key_id):
            return None
        self._redis.hsetnx(self._keys.access_revoked, key_id, self._now().isoformat())
        found = self._read(key_id)
        return None if found is None else found[1]

    def exist(self) -> bool:
        """Whether a key was ever made here, so that whoever calls needs one."""
        return bool(self._redis.exists(self._keys.access))

    def find(self, presented: str) -> AccessKey | None:
        """The key in force with this text. Notes, once a minute, that it is used."""
        key_id = id_of(presented)
        found = None if key_id is None else self._read(key_id)
        if key_id is None or found is None:
            return None
        record, shown, now = found
        is_same = hmac.compare_digest(_digest(presented), record.digest)
        if not is_same or shown.revoked_at is not None:
            return None
        if shown.last_used_at is None or now - shown.last_used_at >= _USE_IS_TOLD_EVERY:
            self._redis.hset(self._keys.access_used, key_id, now.isoformat())
        return shown

    def _read(self, key_id: str) -> tuple[_Record, AccessKey, datetime] | None:
        """A key as it is stored and as it is shown, and the server's time."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(self._keys.access, key_id)
            pipe.hget(self._keys.access_revoked, key_id)
            pipe.hget(self._keys.access_used, key_id)
            pipe.time()
            stored, revoked, used, clock = pipe.execute()
        if stored is None:
            return None
        record = _Record.model_validate_json(stored)
        return record, _shown(key_id, record, revoked, used), _moment(*clock)

    def _now(self) -> datetime:
        return _moment(*self._redis.time())


def _moment(seconds: int, micros: int) -> datetime:
    """A time as the server tells it."""
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _shown(key_id: str, record: _Record, revoked: bytes | None, used: bytes | None) -> AccessKey:
    return AccessKey(
        id=key_id,
        name=record.name,
        created_at=record.created_at,
        revoked_at=None if revoked is None else datetime.fromisoformat(text(revoked)),
        last_used_at=None if used is None else datetime.fromisoformat(text(used)),
        limits=record.limits,
    )
