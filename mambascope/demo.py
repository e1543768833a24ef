"""`make demo`: a real job on an embedded stack, from POST to figures on disk.

Starts the stack, posts one associative-recall prompt to the REST API, shows the job's progress,
saves every artifact, prints which token each method says the model read for its answer, and
stops everything it started.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mambascope.stack import Stack, StackError
from schemas.names import Method, Status

# "river 7" stands in the middle; the prompt ends by asking for river again.
PROMPT = "apple 3 river 7 stone 1 river"
READ_POSITION = 3
REQUEST = {
    "texts": [PROMPT],
    "attention": {"methods": [method.value for method in Method], "rows": "all"},
    "tensors": True,
}
POLL_SECONDS = 0.2
TIME_LIMIT_SECONDS = 300


def submit_and_wait(client: httpx.Client, console: Console) -> dict[str, Any]:
    """POST the job and poll it to its end; the finished job."""
    response = client.post("/v1/jobs", json=REQUEST)
    response.raise_for_status()
    location = response.headers["Location"]
    console.print(f"POST /v1/jobs -> {response.status_code}, Location: {location}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("queued", total=1.0)
        deadline = time.monotonic() + TIME_LIMIT_SECONDS
        while time.monotonic() < deadline:
            job: dict[str, Any] = client.get(location).raise_for_status().json()
            progress = job["progress"]
            bar.update(
                task,
                completed=progress["fraction"],
                description=f"{job['status']:<9} {progress['stage'] or '':<9}",
            )
            if Status(job["status"]).terminal:
                return job
            time.sleep(POLL_SECONDS)
    raise TimeoutError(f"the job did not end within {TIME_LIMIT_SECONDS} s")


def save_artifacts(client: httpx.Client, job: dict[str, Any], output: Path) -> list[Path]:
    """Every artifact of the job, written under `output` under its own name."""
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for artifact in client.get(job["links"]["artifacts"]).raise_for_status().json()["artifacts"]:
        path = output / artifact["name"]
        path.write_bytes(client.get(artifact["href"]).raise_for_status().content)
        paths.append(path)
    return paths


def reading_table(text: dict[str, Any]) -> Table:
    """Which token each method says the last layer read for the model's answer."""
    tokens = [token["text"] for token in text["tokens"]]
    layer = max(text["attention_analysis"], key=int)
    answer = text["target"]["token"]
    table = Table(
        title=f"{' '.join(tokens)} -> {answer['token']}  (p = {answer['probability']:.3f})",
        caption=f"layer {layer}; the answer stands at position {READ_POSITION}",
    )
    for heading in ("method", "reads most", "position", "on the answer"):
        table.add_column(heading)
    for method, analysis in text["attention_analysis"][layer]["methods"].items():
        relevance = analysis["token_relevance"]
        peak = max(range(len(relevance)), key=lambda index: abs(relevance[index]))
        table.add_row(method, tokens[peak], str(peak), "yes" if peak == READ_POSITION else "no")
    return table


def run(output: Path, console: Console) -> int:
    """The whole demo; the process's exit code."""
    with tempfile.TemporaryDirectory(prefix="mambascope-") as data_dir:
        console.print("Starting Valkey, the API and a worker; the first start compiles kernels ...")
        with Stack(data_dir=Path(data_dir), port=0) as stack:
            console.print(f"Ready at {stack.url}")
            with httpx.Client(base_url=stack.url, timeout=30) as client:
                job = submit_and_wait(client, console)
                if job["status"] != Status.SUCCEEDED:
                    console.print_json(data=job["error"])
                    return 1
                paths = save_artifacts(client, job, output)
                result = client.get(job["links"]["result"]).raise_for_status().json()
    console.print(reading_table(result["results"][0]))
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
    except (StackError, httpx.HTTPError, TimeoutError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
