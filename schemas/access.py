"""API keys: who may call, and how much. The key itself is shown once and never stored."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from schemas.base import Contract

# What is remembered of a request takes some ten bytes for a minute.
MOST_REQUESTS_PER_MINUTE = 100_000

KeyName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class KeyLimits(Contract):
    """What one key may do. Null: as much as it likes."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=MOST_REQUESTS_PER_MINUTE, description="In any 60 seconds"
    )
    queued_jobs: int | None = Field(
        default=None, ge=1, lt=2**31, description="That wait at one time"
    )
    tokens_per_day: int | None = Field(
        default=None,
        ge=1,
        lt=2**53,
        description="Of the texts of accepted jobs, times their models, in a day of UTC",
    )


class NewKey(Contract):
    """A key to be made."""

    name: KeyName = Field(description="Whose it is or what it is for; for people alone")
    limits: KeyLimits = KeyLimits()

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("give one line of printable characters")
        return name


class AccessKey(Contract):
    """What is known of a key."""

    id: str = Field(description="The part of the key that is no secret; owns the key's jobs")
    name: str
    created_at: datetime
    revoked_at: datetime | None = Field(default=None, description="Null: it is in force")
    last_used_at: datetime | None = Field(
        default=None, description="To about a minute; null: never used"
    )
    limits: KeyLimits


class IssuedKey(Contract):
    """A key that was just made, with the one copy of its text."""

    key: str
    about: AccessKey
    is_first: bool = Field(description="Whether nobody needed a key until now")
