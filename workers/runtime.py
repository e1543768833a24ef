"""What one runner opens at its start and keeps open between jobs."""

from dataclasses import dataclass

from jobs import Jobs
from schemas.settings import Settings
from workers.kernels.warm import warm_up
from workers.models.loading import choose_device
from workers.models.residency import Residency


@dataclass(frozen=True)
class Runtime:
    """What all jobs of one runner share."""

    settings: Settings
    jobs: Jobs
    models: Residency


def open_runtime(settings: Settings, jobs: Jobs) -> Runtime:
    """Open what all jobs share, once, with every kernel compiled.

    Raises ValueError: the device of the settings is not there.
    """
    choose_device(settings.device)
    warm_up()
    return Runtime(settings, jobs, Residency(settings))
