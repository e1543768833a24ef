"""One job, read top to bottom: check, load, trace, analyse, measure, compare, draw, store."""

from collections.abc import Iterator, Sequence
from contextlib import closing

from jobs import Attempt
from workers.progress import Company, Report
from workers.runtime import Runtime, open_runtime
from workers.shared_pass import SharedPass
from workers.stages import Stages

__all__ = ["Runtime", "open_runtime", "run", "start"]


def start(runtime: Runtime, attempts: Sequence[Attempt]) -> list[Iterator[None]]:
    """Jobs that share their pass through the model, each to be advanced in its turn (see `run`)."""
    shared, company = SharedPass(attempts, runtime.settings), Company()
    # All of them at once: what is left of one depends on the others.
    reports = [Report(runtime.jobs.store, attempt, company) for attempt in attempts]
    return [
        run(runtime, attempt, shared, report)
        for attempt, report in zip(attempts, reports, strict=True)
    ]


def run(runtime: Runtime, attempt: Attempt, shared: SharedPass, report: Report) -> Iterator[None]:
    """Run one attempt up to its record's end.

    Stops once where it has computed all it needs and its figures are being drawn, so that another
    job can compute meanwhile. Raises ProblemError for an expected failure and StaleAttempt when
    the job is no longer this attempt's; the caller writes the failure.
    """
    with runtime.studio.drawings() as drawings, closing(report):
        stages = Stages(runtime, attempt, shared, drawings, report)
        stages.check()
        for index in range(len(attempt.request.models)):
            _compute(stages, index)
        stages.average()
        stages.compare()
        stages.match_neurons()
        yield
        stages.collect_figures()
        stages.write_tensors()
        stages.succeed()


def _compute(stages: Stages, index: int) -> None:
    """One model's part. What it held is free again before the next model is loaded."""
    model = stages.load(index)
    for text, trace in stages.traces(model):
        stages.analyse(model, text, trace)
    stages.measure_neurons(model)
    stages.find_knowledge(model)
    stages.perturb(model)
