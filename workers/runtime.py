"""What one runner opens at its start and keeps open between jobs."""

import os
from dataclasses import dataclass

import structlog
import torch

from jobs import Jobs
from schemas.settings import Settings
from workers.figures.studio import Studio
from workers.kernels.denormals import flush_denormals, kept_denormals
from workers.kernels.warm import warm_up
from workers.memory import fit, give_back_freed_blocks
from workers.models.loading import choose_device
from workers.models.residency import Residency

log = structlog.get_logger("workers.runtime")

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

    Denormals are flushed for good: call it before torch computes anything, so that its threads
    start in that mode. Raises ValueError: a device of the settings is not there.
    """
    if flush_denormals() and (kept := kept_denormals()):
        log.warning("some of torch's threads keep denormals; they may be slow", kept=kept)
    give_back_freed_blocks()
    device = choose_device(settings.device)
    fitted = fit(with_devices(settings, device), device)
    # Its processes load their libraries while the kernels compile.
    processors = settings.threads or len(os.sched_getaffinity(0))
    studio = Studio(min(processors, _MOST_ARTISTS))
    warm_up()
    return Runtime(fitted, jobs, Residency(fitted), studio)


def with_devices(settings: Settings, device: torch.device) -> Settings:
    """The settings with devices that are here in place of `auto`, for all and for single models.

    Raises ValueError: one that a model's settings name is not there.
    """
    named = "MAMBASCOPE_MODELS"
    models = tuple(
        (pattern, model.model_copy(update={"device": str(choose_device(model.device, named))}))
        if model.device is not None
        else (pattern, model)
        for pattern, model in settings.models
    )
    return settings.model_copy(update={"device": str(device), "models": models})
