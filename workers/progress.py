"""How far a job is and where its time went, told to its record a few times a second at most."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs import Attempt
from jobs.store import JobStore
from schemas.job import Progress
from schemas.names import Stage
from schemas.request import JobRequest

INTERVAL = 0.2
# How the seconds of a default job on a 130M model share themselves out, roughly.
_SHARES = {
    Stage.LOADING: 0.15,
    Stage.TRACING: 0.2,
    Stage.ANALYSING: 0.35,
    Stage.INTERVENING: 0.6,
    Stage.DRAWING: 0.25,
    Stage.STORING: 0.05,
}


class Report:
    """The progress of one attempt. `fraction` is the share of each stage times how much is done."""

    def __init__(self, store: JobStore, attempt: Attempt) -> None:
        self._store = store
        self._attempt = attempt
        self._shares = _shares(attempt.request)
        self._done = dict.fromkeys(Stage, 0.0)
        self._told: set[Stage] = set()
        self._next = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Add the block's wall time to the stage's seconds."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def tell(self, stage: Stage, done: float, detail: str = "") -> None:
        """Say that a stage is `done` (0 to 1) and what it does now.

        Written at once when the stage is new, otherwise at most once per `INTERVAL`; the store sees
        to it that the record's fraction never falls. Raises StaleAttempt when the job is not this
        attempt's any more.
        """
        self._done[stage] = min(done, 1.0)
        now = time.monotonic()
        if stage in self._told and now < self._next:
            return
        self._told.add(stage)
        self._next = now + INTERVAL
        fraction = sum(share * self._done[known] for known, share in self._shares.items())
        progress = Progress(fraction=min(round(fraction, 4), 1.0), stage=stage, detail=detail)
        self._store.progress(self._attempt, progress)


def _shares(request: JobRequest) -> dict[Stage, float]:
    """The stages that the request needs, with shares that add up to 1."""
    shares = dict(_SHARES)
    if request.knowledge_neurons is None and request.perturbation is None:
        del shares[Stage.INTERVENING]
    if request.attention is None:
        del shares[Stage.ANALYSING]
    if request.attention is None or not request.figures:
        del shares[Stage.DRAWING]
    whole = sum(shares.values())
    return {stage: share / whole for stage, share in shares.items()}
