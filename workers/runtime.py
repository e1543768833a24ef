"""What one runner opens at its start and keeps open between jobs."""

from dataclasses import dataclass

import structlog

from jobs import Jobs
from schemas.settings import Settings
from workers.kernels.denormals import flush_denormals, kept_denormals
from workers.kernels.warm import warm_up
from workers.models.loading import choose_device
from workers.models.residency import Residency

log = structlog.get_logger("workers.runtime")


@dataclass(frozen=True)
class Runtime:
    """What all jobs of one runner share."""

    settings: Settings
    jobs: Jobs
    models: Residency


def open_runtime(settings: Settings, jobs: Jobs) -> Runtime:
    """Open what all jobs share, once, with every kernel compiled and denormals flushed for good.

    Call it before torch computes anything, so that its threads start in that mode.

    Raises ValueError: the device of the settings is not there.
    """
    if flush_denormals() and (kept := kept_denormals()):
        log.warning("some of torch's threads keep denormals; they may be slow", kept=kept)
    choose_device(settings.device)
    warm_up()
    return Runtime(settings, jobs, Residency(settings))
