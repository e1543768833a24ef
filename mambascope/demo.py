"""`make demo`: a real job on an embedded stack, from POST to figures on disk.

Starts the stack, posts one associative-recall prompt to the REST API, shows the job's progress,
saves every artifact, prints which token each method says the model read for its answer, and
stops everything it started.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mambascope.client.connecting import connect
from mambascope.client.errors import MambascopeError
from mambascope.client.saving import save
from mambascope.client.wire import run as done
from mambascope.progress import Teller, tell_job, teller
from mambascope.stack import Stack, StackError
from schemas.job import Job
from schemas.names import JOBS_PATH, RESULT_FILE, Method, Status
from schemas.result import ResultDocument, TextResult

# "river 7" stands in the middle; the prompt ends by asking for river again.
PROMPT = "apple 3 river 7 stone 1 river"
READ_POSITION = 3
REQUEST = {
    "texts": [PROMPT],
    "attention": {"methods": [method.value for method in Method], "rows": "all"},
    "tensors": True,
}
TIME_LIMIT_SECONDS = 300


def reading_table(text: TextResult) -> Table:
    """Which token each method says the last layer read for the model's answer."""
    tokens = [token.text for token in text.tokens]
    layer = max(text.attention_analysis)
    answer = text.target.token
    table = Table(
        title=f"{' '.join(tokens)} -> {answer.token}  (p = {answer.probability:.3f})",
        caption=f"layer {layer}; the answer stands at position {READ_POSITION}",
    )
    for heading in ("method", "reads most", "position", "on the answer"):
        table.add_column(heading)
    for method, analysis in text.attention_analysis[layer].methods.items():
        relevance = analysis.token_relevance
        peak = max(range(len(relevance)), key=lambda index: abs(relevance[index]))
        table.add_row(method, tokens[peak], str(peak), "yes" if peak == READ_POSITION else "no")
    return table


def work(output: Path, told: Teller) -> tuple[Job, list[Path]]:
    """The job, posted to a stack of its own and followed to its end, and the files it left."""
    told.stage("starting", "the first start compiles kernels")
    with (
        tempfile.TemporaryDirectory(prefix="mambascope-") as data_dir,
        Stack(data_dir=Path(data_dir), port=0, notice=told.notice) as stack,
        connect(stack.url, away=told.notice, ours=True) as service,
    ):
        told.notice(f"Valkey, the API and a worker are ready at {stack.url}")
        standing = done(service.submit(REQUEST))
        told.notice(f"POST {JOBS_PATH}: accepted as {standing.job.id}")
        following = service.follow(standing, lambda seen: tell_job(told, seen), TIME_LIMIT_SECONDS)
        job = done(following)
        told.notice(f"The job {job.status}.")
        paths = done(save(service, job.id, output)) if job.status is Status.SUCCEEDED else []
        told.stage("stopping")
    return job, paths


def run(output: Path, console: Console) -> int:
    """The whole demo; the process's exit code."""
    with teller() as told:
        job, paths = work(output, told)
    if job.status is not Status.SUCCEEDED:
        console.print_json(data=job.error.model_dump() if job.error else None)
        return 1
    document = ResultDocument.model_validate_json((output / RESULT_FILE).read_bytes())
    console.print(reading_table(document.results[0]))
    figures = [path for path in paths if path.suffix == ".png"]
    console.print(f"Saved result.json, {len(figures)} figures and the tensors to {output}/")
    console.print("Stopped everything that was started.")
    return 0


def main() -> None:
    """Entry point of `python -m mambascope.demo`."""
    parser = argparse.ArgumentParser(prog="mambascope.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    console = Console()
    try:
        sys.exit(run(parser.parse_args().output, console))
    except (StackError, MambascopeError, OSError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
