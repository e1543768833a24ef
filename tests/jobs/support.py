"""What several tests of `jobs` need."""

from jobs import Jobs, open_jobs
from jobs.keys import Keys
from jobs.reaper import Reaper
from schemas.request import JobRequest
from schemas.settings import Settings

REQUEST = JobRequest(texts=["apple 3 river 7 stone 1 river"], metadata={"who": "Ünïcode"})


def hasty(settings: Settings, lease_seconds: float = 0) -> Jobs:
    """The same installation as seen by one that takes every silence for death at once."""
    return open_jobs(settings.model_copy(update={"lease_seconds": lease_seconds}))


def reaper(jobs: Jobs) -> Reaper:
    return Reaper(jobs)


def events(jobs: Jobs, settings: Settings, job_id: str) -> list[dict[str, str]]:
    """The job's stream, oldest first."""
    entries = jobs.redis.xrange(Keys(settings.key_prefix).events(job_id))
    return [
        {key.decode(): value.decode() for key, value in fields.items()} for _, fields in entries
    ]
