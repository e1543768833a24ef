"""How far a job is, where its time went and what is left, told a few times a second at most.

Time goes to the phase that the job is at; how much of that phase is done, whoever does it says.
From both comes the estimate of the rest (`forecasting.forecast`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from jobs import Attempt, StaleAttempt
from jobs.costs import Costs
from jobs.store import JobStore
from schemas.job import Progress, Shows
from schemas.names import Stage
from workers.forecasting.forecast import (
    Forecast,
    ModelPhase,
    Phase,
    fraction_of,
    rounded,
)
from workers.forecasting.gallery import Gallery
from workers.forecasting.planning import Experience, Plan, plan
from workers.kernels import pulse
from workers.runtime import Runtime

INTERVAL = 0.2
_WAITING = "waiting for the jobs that it shares a pass with"


class Report:
    """The progress of one attempt, which began when this was made."""

    def __init__(self, store: JobStore, attempt: Attempt, company: "Company | None" = None) -> None:
        self.forecast = Forecast()
        # Hears what was done beside the job, before it is told of; raises nothing.
        self.hear: Callable[[], None] | None = None
        self.seconds: dict[Stage, float] = {}
        self._store, self._attempt = store, attempt
        self._company = Company() if company is None else company
        self._company.join(self)
        self._began = self._ticked = time.perf_counter()
        self._place: ModelPhase | None = None
        self._stage: Stage | None = None
        self._detail = _WAITING
        self._next = self._reached = 0.0
        self._plan = Plan({}, Gallery(), known=0.0, layers=None)
        self._texts = len(attempt.request.texts) * len(attempt.request.models)
        self._texts_done = self._layers_done = 0

    def foretell(self, runtime: Runtime) -> None:
        """Foretell this job and those beside it, as far as they are not known yet."""
        self._company.foretell(runtime)

    def plan(self, runtime: Runtime) -> Plan:
        """What this job does, by what lies on this disk now; once that is all, it stays."""
        if not self.is_known:
            resident, artists = runtime.models.names(), runtime.studio.processes
            self._plan = plan(self._attempt.request, runtime.settings, resident, artists)
        return self._plan

    @property
    def is_known(self) -> bool:
        """Whether all that this job does is foretold."""
        return self._plan.known == 1.0

    def learn(self, runtime: Runtime) -> None:
        """Have other jobs foretold by what this one took."""
        self.over(Phase.DRAWING)
        self.over(Phase.STORING)
        _experience(runtime).learn(self.forecast.measured())

    @property
    def models(self) -> list[str]:
        """Those that the job runs."""
        return self._attempt.request.models

    @contextmanager
    def doing(self, phase: Phase, model: str = "", detail: str = "") -> Iterator[None]:
        """The block belongs to a phase of the job, which is told; inside, `pulse` is felt."""
        self._tick()
        outer, self._place = self._place, (model, phase)
        try:
            self.tell(detail)
            with pulse.felt(self._feel):
                yield
        finally:
            self._tick()
            self._place = outer

    def done(self, seconds: float, detail: str = "") -> None:
        """So many foretold seconds of the phase under way are done."""
        if self._place is not None:
            self._tick()
            self.forecast.do(self._place, seconds)
            self.tell(detail or self._detail)

    def reach(self, share: float, detail: str = "") -> None:
        """This share of the phase under way is done, 0 to 1."""
        if self._place is not None:
            self._tick()
            self.forecast.reach(self._place, share)
            self.tell(detail or self._detail)

    def collect(self, left: Iterable[Shows]) -> None:
        """All is computed; figures that show this are not drawn yet."""
        self.hear = None
        self.forecast.collect(sum(map(self.forecast.gallery.seconds_of, left)))

    def drawn(self, shows: Shows, beside: float | None = None) -> None:
        """One more figure is drawn; `beside`: in so many seconds, while the job computed."""
        seconds = self.forecast.gallery.seconds_of(shows)
        if beside is None:
            self.done(seconds)
        else:
            self.forecast.drawn(seconds, beside)

    def over(self, phase: Phase, model: str = "") -> None:
        """A phase is over."""
        self.forecast.end((model, phase))

    def analysed(self, *, layers: int = 0, texts: int = 0) -> None:
        """So many layers, and texts, are analysed."""
        self._layers_done += layers
        self._texts_done += texts

    def tell(self, detail: str = "") -> None:
        """Say what the job does now; at once where its stage is new, else once per `INTERVAL`.

        The other jobs that run beside it are told of as well. Raises StaleAttempt when the job is
        not this attempt's any more.
        """
        self._tick()
        self._detail = detail
        stage = self._stage if self._place is None else self._place[1].stage
        if stage == self._stage and time.perf_counter() < self._next:
            return
        self._stage = stage
        self._company.write(self)

    def write(self, remaining: float) -> None:
        """Write what is known now, with the seconds that are left. Raises StaleAttempt."""
        now = time.perf_counter()
        self._next = now + INTERVAL
        reached = self._plan.known * fraction_of(now - self._began, remaining)
        # It never falls: where the rest turns out longer, it stands still.
        self._reached = max(self._reached, reached)
        progress = Progress(
            fraction=min(round(self._reached, 4), 1.0),
            stage=self._stage,
            detail=self._detail,
            texts_done=self._texts_done,
            texts=self._texts,
            layers_done=self._layers_done,
            layers=self._plan.layers,
            remaining_seconds=rounded(remaining) if self.is_known else None,
        )
        self._store.progress(self._attempt, progress)

    def close(self) -> None:
        """The attempt is over, however it ended."""
        self.hear = None
        self._company.leave(self)

    def _tick(self) -> None:
        """Give the time since the last tick to the phase that the job is at."""
        now = time.perf_counter()
        spent, self._ticked = now - self._ticked, now
        if self._place is not None:
            self.forecast[self._place].spent += spent
            stage = self._place[1].stage
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def _feel(self, done: float | None) -> None:
        if done is None:
            self.tell(self._detail)
        else:
            self.reach(done)


class Company:
    """The reports of jobs that run together, in the order of their turns.

    All compute, each in its turn, before the first of them is ended.
    """

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def join(self, report: Report) -> None:
        """One more, after the others."""
        self._reports.append(report)

    def leave(self, report: Report) -> None:
        """One that has ended, or is not this worker's any more."""
        with suppress(ValueError):
            self._reports.remove(report)

    def foretell(self, runtime: Runtime) -> None:
        """Foretell every job, as far as it is not known yet.

        The first of them runs its models on the texts of all.
        """
        if all(report.is_known for report in self._reports):
            return
        plans = [report.plan(runtime) for report in self._reports]
        efforts = [dict(each.efforts) for each in plans]
        for model in self._reports[0].models:
            shared = (model, Phase.TRACING)
            whole = sum(each.get(shared, 0.0) for each in efforts)
            for each in efforts:
                each[shared] = 0.0
            efforts[0][shared] = whole
        experience = _experience(runtime)
        for report, found, own in zip(self._reports, plans, efforts, strict=True):
            report.forecast.expect(own, experience.of(own), found.gallery)

    def rests(self) -> dict[Report, float]:
        """Seconds until each job ends: all compute before any does, and those before it end first.

        The processes that draw serve all of them, first come, first served.
        """
        computing = [report.forecast.computing() for report in self._reports]
        seconds = beside = later = sum(computing)
        found = {}
        for report, own in zip(self._reports, computing, strict=True):
            later -= own
            after = min(report.forecast.computing_after_texts() + later, beside)
            ending, drawing = report.forecast.ending(beside, after)
            seconds += ending
            beside -= drawing
            found[report] = seconds
        return found

    def write(self, active: Report) -> None:
        """Say how far every job is. Raises StaleAttempt where the active one is not there."""
        for report in self._reports:
            if report.hear is not None:
                report.hear()
        rests = self.rests()
        active.write(rests.pop(active, 0.0))
        for report, remaining in rests.items():
            try:
                report.write(remaining)
            except StaleAttempt:
                # Its own turn will tell.
                self.leave(report)


def _experience(runtime: Runtime) -> Experience:
    return Experience(Costs(runtime.jobs.redis, runtime.settings), runtime.settings)
