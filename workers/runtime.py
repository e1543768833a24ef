"""What one runner opens at its start and keeps open between jobs."""

import os
from dataclasses import dataclass

from jobs import Jobs
from schemas.settings import Settings
from workers.figures.studio import Studio
from workers.kernels.warm import warm_up
from workers.memory import fit
from workers.models.loading import choose_device
from workers.models.residency import Residency

# Each holds some 150 MB.
_MOST_ARTISTS = 8


@dataclass(frozen=True)
class Runtime:
    """What all jobs of one runner share."""

    settings: Settings
    jobs: Jobs
    models: Residency
    studio: Studio

    def close(self) -> None:
        """End the processes that draw."""
        self.studio.close()


def open_runtime(settings: Settings, jobs: Jobs) -> Runtime:
    """Open what all jobs share, once, with every kernel compiled, for the memory that is here.

    Raises ValueError: the device of the settings is not there.
    """
    fitted = fit(settings, choose_device(settings.device))
    # Its processes load their libraries while the kernels compile.
    processors = settings.threads or len(os.sched_getaffinity(0))
    studio = Studio(min(processors, _MOST_ARTISTS))
    warm_up()
    return Runtime(fitted, jobs, Residency(fitted), studio)
