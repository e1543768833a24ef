"""What every route needs, opened once and passed down."""

from dataclasses import dataclass

from jobs import Jobs
from schemas.settings import Settings
from service.lookup import JobLookup


@dataclass(frozen=True)
class Context:
    """The settings of this process and its open jobs."""

    settings: Settings
    jobs: Jobs
    lookup: JobLookup
