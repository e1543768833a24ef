"""`python -m workers`: one worker, that is a supervisor and its runner."""

import sys

import structlog
from redis import RedisError

from jobs import open_jobs
from jobs.reaper import Reaper, ReaperThread
from schemas.settings import Settings
from workers import logs
from workers.supervisor import ENTRY, Supervisor

log = structlog.get_logger("workers")


def serve(settings: Settings, entry: str = ENTRY) -> int:
    """Work until told to stop; the process's exit code. Call it from the main thread."""
    logs.configure(settings.log_level)
    jobs = open_jobs(settings)
    reaper = ReaperThread(Reaper(jobs, settings.max_stored_bytes), settings)
    reaper.start()
    try:
        return 0 if Supervisor(settings, jobs, entry).serve() else 1
    except RedisError as error:
        log.error(
            "the store does not answer; the worker ends. Is MAMBASCOPE_REDIS_URL right?",
            error=str(error),
        )
        return 1
    finally:
        reaper.stop()


if __name__ == "__main__":
    sys.exit(serve(Settings()))
