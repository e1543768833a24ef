"""Where service and workers meet: the job record and its transitions, the queue, the artifacts."""

from jobs.hub import Jobs, open_jobs
from jobs.store import Attempt, StaleAttempt, StoredArtifacts
from jobs.submission import Terms

__all__ = ["Attempt", "Jobs", "StaleAttempt", "StoredArtifacts", "Terms", "open_jobs"]
