"""What several tests of `jobs` need."""

from collections.abc import Callable

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from jobs import Jobs, open_jobs
from jobs.keys import Keys
from jobs.reaper import Reaper
from schemas.request import JobRequest
from schemas.settings import Settings

REQUEST = JobRequest(texts=["apple 3 river 7 stone 1 river"], metadata={"who": "Ünïcode"})


def walk(machine: Callable[[], RuleBasedStateMachine], steps: int) -> None:
    """Sixty random walks of a state machine, each of at most so many steps."""
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=60,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


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
