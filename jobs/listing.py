"""Jobs of one owner, newest first, a page at a time."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from redis import Redis

from jobs.connect import text
from jobs.identity import is_job_id
from jobs.keys import Keys
from jobs.view import FIELDS, facts_from
from schemas.job import JobList, JobSummary
from schemas.names import Status
from schemas.settings import Settings

# Records that one page looks at, so that a rare status or model costs many short answers and not
# one long one; and how many at a time.
_LOOKS = 1000
_BATCH = 100

_FIELDS = (*(field for field in FIELDS if field != "request"), "summary")


class BadCursor(ValueError):  # noqa: N818 - it says what is the case
    """The cursor is none that a page has given."""


@dataclass(frozen=True)
class Wanted:
    """Which jobs to list. None: whatever it is."""

    owner: str = ""
    status: Status | None = None
    model: str | None = None

    def takes(self, job: JobSummary) -> bool:
        """Whether a job is one of them."""
        right_status = self.status is None or job.status is self.status
        return right_status and (self.model is None or self.model in job.models)


class JobListing:
    """Reads pages of the owner's index. A job that comes meanwhile moves nothing."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys(settings.key_prefix)

    def page(self, wanted: Wanted, cursor: str | None, limit: int) -> JobList:
        """At most `limit` jobs older than the cursor. Raises BadCursor.

        Fewer come, with a cursor to go on, where a thousand records hold no more of that kind.
        """
        jobs: list[JobSummary] = []
        last = _opened(cursor)
        for _ in range(_LOOKS // _BATCH):
            ids = self._older(wanted.owner, last, _BATCH)
            for job_id, job in zip(ids, self._read(ids), strict=True):
                last = job_id
                if job is not None and wanted.takes(job):
                    jobs.append(job)
                if len(jobs) == limit:
                    more = self._older(wanted.owner, last, 1)
                    return JobList(jobs=jobs, next_cursor=_closed(last) if more else None)
            if len(ids) < _BATCH:
                return JobList(jobs=jobs)
        return JobList(jobs=jobs, next_cursor=_closed(last))

    def _older(self, owner: str, last: str, most: int) -> list[str]:
        start = f"({last}" if last else "+"
        owned = self._keys.owned(owner)
        found = self._redis.zrevrangebylex(owned, start, "-", start=0, num=most)
        return [text(member) for member in found]

    def _read(self, ids: list[str]) -> list[JobSummary | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(self._keys.record(job_id), _FIELDS)
                pipe.zrank(self._keys.queued, job_id)
            answers = pipe.execute()
        states = zip(ids, answers[::2], answers[1::2], strict=True)
        return [_summary(job_id, values, rank) for job_id, values, rank in states]


def _summary(job_id: str, values: list[bytes | None], rank: int | None) -> JobSummary | None:
    """A job as it stands in a list; None for one that was removed meanwhile."""
    found = {name: text(value) for name, value in zip(_FIELDS, values, strict=True) if value}
    if found.get("status") not in set(Status):
        return None
    return JobSummary(
        **facts_from(job_id, found, rank),
        **json.loads(found["summary"]),
    )


def _closed(job_id: str) -> str:
    return urlsafe_b64encode(job_id.encode()).decode().rstrip("=")


def _opened(cursor: str | None) -> str:
    """The job after which the page begins; empty: the newest. Raises BadCursor."""
    if cursor is None:
        return ""
    try:
        job_id = urlsafe_b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}").decode()
    except ValueError:
        raise BadCursor(cursor) from None
    if not is_job_id(job_id) or _closed(job_id) != cursor:
        raise BadCursor(cursor)
    return job_id
