"""The webhooks that are still to be sent, and what became of each attempt.

A job that has ended and has a receiver stands in a sorted set by when it is due. Whoever delivers
holds a page of due jobs, claims each when it is really about to be sent, and settles it with the
outcome. To hold and to claim is to move the time that it is due: nobody else sends it meanwhile,
and a process that dies only delays it. A claim names the time that its holder set, so of two
processes that have held one job in turn, one gets it.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import SecretStr, TypeAdapter
from pydantic_core import from_json

from jobs.connect import connect_awaited, text
from jobs.keys import Keys
from jobs.scripts import script
from jobs.view import links_of
from schemas.job import Delivery
from schemas.names import Status
from schemas.problem import Problem
from schemas.settings import Settings
from schemas.webhook import EventType, JobOutcome, WebhookEvent

# Seconds before each further attempt, as the specification proposes: eight attempts in 32 hours.
RETRY_DELAYS = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600)
# Each delay is drawn from this range around it, so that what failed together does not come back so.
_JITTER = (0.8, 1.2)
# Seconds; a receiver that asks for more patience than this is asked again nonetheless.
_MAX_RETRY_AFTER = 24 * 3600

# Seconds that a job waits at most in a process that holds it, before another may take it.
_HOLD = 30
# Seconds that a claim outlasts the time limit of the request itself.
_MARGIN = 5
_RELEASED_AT_ONCE = 500

_DELIVERIES = TypeAdapter(list[Delivery])
_FIELDS = (
    "status",
    "created_at",
    "finished_at",
    "error",
    "reused_from",
    "summary",
    "webhook_secret",
    "deliveries",
)

_SCRIPT = script("outbox.lua")


@dataclass(frozen=True)
class Held:
    """A due job that is this process's to claim until another one may: server ms."""

    job_id: str
    until: int


@dataclass(frozen=True)
class Due(Held):
    """A due job and its receiver."""

    url: str


@dataclass(frozen=True)
class Parcel(Due):
    """A claimed job: what to send, and the attempts before this one."""

    at: datetime
    secret: SecretStr | None
    event: WebhookEvent
    deliveries: tuple[Delivery, ...]
    recorded: str
    """`deliveries` as the record has it."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return len(self.deliveries) + 1


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt; without an `error` the webhook has arrived."""

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    """Seconds that the receiver asks for."""
    is_final: bool = False
    """Whether the receiver wants no further attempt."""


class Outbox:
    """The webhooks of one installation. For one event loop."""

    def __init__(self, settings: Settings, delays: Sequence[float] = RETRY_DELAYS) -> None:
        self._redis = connect_awaited(settings)
        self._keys = Keys(settings.key_prefix)
        self._lease_ms = (settings.webhook_timeout + _MARGIN) * 1000
        self._delays = delays

    async def hold(self, most: int) -> list[Held]:
        """At most `most` due jobs, the longest due first, for this process to claim."""
        until, ids = await self._run("hold", "", _HOLD * 1000, most)
        return [Held(text(job_id), int(until)) for job_id in ids]

    async def addressed(self, held: Sequence[Held]) -> list[Due]:
        """Those of these jobs that have a receiver. The others are to be sent no more."""
        pipe = self._redis.pipeline(transaction=False)
        for job in held:
            pipe.hget(self._keys.record(job.job_id), "webhook")
        urls = [text(url or b"") for url in await pipe.execute()]
        lost = [job.job_id for job, url in zip(held, urls, strict=True) if not url]
        if lost:
            await cast(Any, self._redis.zrem(self._keys.outbox, *lost))
        return [Due(job.job_id, job.until, url) for job, url in zip(held, urls, strict=True) if url]

    async def claim(self, due: Due) -> Parcel | None:
        """Take a job to send it now; None when it is not this process's to send any more."""
        answer = await self._run("claim", due.job_id, due.until, self._lease_ms, *_FIELDS)
        if answer is None:
            return None
        now, until, values = answer
        return _parcel(replace(due, until=int(until)), _moment(int(now)), values)

    async def settle(self, parcel: Parcel, outcome: Outcome) -> Delivery:
        """Record what came of an attempt, and when the next is due, if there is one."""
        at = parcel.at
        delay = self._delay_after(parcel.attempt, outcome)
        due = None if delay is None else await self._now_ms() + round(delay * 1000)
        delivery = Delivery(
            attempt=parcel.attempt,
            at=at,
            status=outcome.status,
            error=outcome.error,
            next_at=None if due is None else _moment(due),
        )
        deliveries = _DELIVERIES.dump_json([*parcel.deliveries, delivery])
        next_due = "" if due is None else due
        await self._run("settle", parcel.job_id, parcel.recorded, deliveries, next_due)
        return delivery

    async def release(self, held: Iterable[Held]) -> None:
        """Let others have at once what this process will not send."""
        pairs = [(job.job_id, job.until) for job in held]
        for start in range(0, len(pairs), _RELEASED_AT_ONCE):
            await self._run("release", "", *sum(pairs[start : start + _RELEASED_AT_ONCE], ()))

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    def _delay_after(self, attempt: int, outcome: Outcome) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if outcome.error is None or outcome.is_final or attempt > len(self._delays):
            return None
        delay = self._delays[attempt - 1] * random.uniform(*_JITTER)
        return max(delay, min(outcome.retry_after or 0, _MAX_RETRY_AFTER))

    async def _now_ms(self) -> int:
        seconds, micros = await cast(Any, self._redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def _run(self, operation: str, job_id: str, *values: str | bytes | int) -> Any:
        keys = [self._keys.outbox, *([self._keys.record(job_id)] if job_id else [])]
        about = [operation, *([job_id] if job_id else [])]
        return await cast(Any, self._redis.eval(_SCRIPT, len(keys), *keys, *about, *values))


def _parcel(due: Due, at: datetime, values: list[bytes | None]) -> Parcel:
    found = {name: text(value) for name, value in zip(_FIELDS, values, strict=True) if value}
    secret, recorded = found.get("webhook_secret"), found.get("deliveries", "")
    return Parcel(
        job_id=due.job_id,
        until=due.until,
        url=due.url,
        at=at,
        secret=SecretStr(secret) if secret else None,
        event=_event(due.job_id, found),
        deliveries=tuple(_DELIVERIES.validate_json(recorded or "[]")),
        recorded=recorded,
    )


def _event(job_id: str, found: Mapping[str, str]) -> WebhookEvent:
    status, finished_at = Status(found["status"]), datetime.fromisoformat(found["finished_at"])
    return WebhookEvent(
        type=cast(EventType, f"job.{status}"),
        timestamp=finished_at,
        data=JobOutcome(
            id=job_id,
            status=status,
            created_at=datetime.fromisoformat(found["created_at"]),
            finished_at=finished_at,
            error=Problem.model_validate_json(found["error"]) if "error" in found else None,
            links=links_of(job_id),
            metadata=from_json(found["summary"])["metadata"],
            reused_from=found.get("reused_from"),
        ),
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
