"""One job, read top to bottom: check, load, trace, analyse, document, figures, tensors, store."""

from jobs import Attempt
from workers.runtime import Runtime, open_runtime
from workers.stages import Stages

__all__ = ["Runtime", "open_runtime", "run"]


def run(runtime: Runtime, attempt: Attempt) -> None:
    """Run one attempt up to its record's end.

    Raises ProblemError for an expected failure and StaleAttempt when the job is no longer this
    attempt's; the caller writes the failure.
    """
    stages = Stages(runtime, attempt)
    stages.check()
    for index in range(len(attempt.request.models)):
        model = stages.load(index)
        for text, trace in stages.traces(model):
            stages.analyse(model, text, trace)
    document = stages.document()
    stages.draw(document)
    stages.write_tensors()
    stages.succeed(document)
