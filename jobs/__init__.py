"""Where service and workers meet: the job record and its transitions, the queue, the artifacts."""

from jobs.hub import Jobs, open_jobs
from jobs.store import Attempt, StaleAttempt, StoredArtifacts

__all__ = ["Attempt", "Jobs", "StaleAttempt", "StoredArtifacts", "open_jobs"]
