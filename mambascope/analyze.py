"""`mambascope analyze`: one job, from what was typed to files on disk and a printed summary."""

import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from shutil import rmtree

import httpx
from pydantic import ValidationError
from rich.console import Console

from mambascope.arguments import Arguments, parse
from mambascope.asking import Asked, asked, given_flags
from mambascope.client.connecting import (
    DEFAULT_URL,
    KEY_VARIABLE,
    URL_VARIABLE,
    address,
    authorization,
    connect,
)
from mambascope.client.errors import (
    RequestRefused,
    ServiceFault,
    TimedOut,
    Unreachable,
)
from mambascope.client.saving import save
from mambascope.client.service import Service
from mambascope.client.wire import run as done
from mambascope.printing import say, tell, write
from mambascope.progress import Teller, tell_job, teller
from mambascope.stack import Stack, StackError
from mambascope.stopping import StopAsked, heed_signals
from mambascope.summary import summary
from mambascope.usage import WRONG_USAGE, UsageProblem, read_settings
from mambascope.visible import counted
from schemas.job import Job
from schemas.names import JOBS_PATH, RESULT_FILE, TENSORS_FILE, Status
from schemas.result import ResultDocument


class ExitCode(IntEnum):
    """What scripts can tell apart."""

    SUCCEEDED = 0
    FAILED = 1
    REFUSED = WRONG_USAGE
    UNREACHABLE = 3
    TIMED_OUT = 4
    INTERRUPTED = 130


def run(typed: Sequence[str]) -> ExitCode:
    """Do as typed. What goes wrong is said on standard error."""
    arguments = parse(typed)
    analysis = _Analysis(arguments)
    try:
        heed_signals()
        return analysis.run()
    except UsageProblem as problem:
        say(f"mambascope: {problem}")
        return ExitCode.REFUSED
    except RequestRefused as refused:
        tell(refused.problem, analysis.asked)
        # A job that was accepted, and that the service does not know any more.
        return ExitCode.FAILED if analysis.location else ExitCode.REFUSED
    except ServiceFault as broke:
        if broke.problem is None:
            say(f"mambascope: {broke}")
        else:
            tell(broke.problem, analysis.asked)
        code = ExitCode.FAILED
    except Unreachable as unreachable:
        say(f"mambascope: {unreachable}")
        code = ExitCode.UNREACHABLE
    except TimedOut:
        say(f"mambascope: The job has not ended within {arguments.timeout:g} s.")
        code = ExitCode.TIMED_OUT
    except StopAsked:
        say("mambascope: Interrupted.")
        code = ExitCode.INTERRUPTED
    except (StackError, OSError) as error:
        say(f"mambascope: {error}")
        code = ExitCode.FAILED
    analysis.tell_where_the_job_is()
    return code


@dataclass
class _Analysis:
    """One run of the command, and what became known in it."""

    arguments: Arguments
    asked: Asked | None = None
    location: str | None = None
    """The job's address, once it is accepted and as long as it has not ended."""

    def run(self) -> ExitCode:
        """From the arguments to the printed summary."""
        self.arguments = arguments = _settled(self.arguments)
        if arguments.job is None:
            self.asked = asked(arguments)
        if arguments.wait:
            _require_writable(arguments.output)
        with teller() as told:
            job, paths = self._work(told)
        if not arguments.wait:
            write(job.model_dump_json().encode() if arguments.json else str(self.location))
            return ExitCode.SUCCEEDED
        if job.status is not Status.SUCCEEDED:
            self._tell_failure(job)
            return ExitCode.FAILED
        self._show(paths)
        return ExitCode.SUCCEEDED

    def tell_where_the_job_is(self) -> None:
        """After a run that broke off: how to have what goes on without it."""
        if self.location is None:
            return
        if self.arguments.url is not None:
            say(f"The job is at {self.location}. To fetch it:")
            self._say_how_to_fetch(self.location)
        elif (folder := self.arguments.data_dir) is not None:
            up = shlex.join(["mambascope", "up", "--data-dir", str(folder)])
            say(f"The job stays in {folder}. `{up}` goes on with it; then, to fetch it:")
            self._say_how_to_fetch(
                f"{DEFAULT_URL}{JOBS_PATH}{self.location.partition(JOBS_PATH)[2]}"
            )

    def _say_how_to_fetch(self, location: str) -> None:
        words = ["mambascope", "analyze", "--job", location]
        say("  " + shlex.join([*words, "--output", str(self.arguments.output)]))

    def _work(self, told: Teller) -> tuple[Job, list[Path]]:
        """The job as far as it is to be followed, and the files that were saved."""
        arguments = self.arguments
        with _service(arguments, told) as service:
            if self.asked is None:
                standing = done(service.look(str(arguments.job)))
            else:
                standing = done(service.submit(self.asked.body))
            self.location = service.location(standing.job.id)
            if not arguments.wait:
                return standing.job, []
            job = done(service.follow(standing, lambda job: tell_job(told, job), arguments.timeout))
            paths = []
            if job.status is Status.SUCCEEDED:
                paths = done(
                    save(
                        service,
                        job.id,
                        arguments.output,
                        lambda count, of: told.stage("saving", counted(of, "file"), count / of),
                    )
                )
            self.location = None
            return job, paths

    def _tell_failure(self, job: Job) -> None:
        if job.error is None:
            say(f"mambascope: The job was {job.status}.")
            return
        tell(job.error, self.asked)
        is_ours = self.arguments.url is None and self.arguments.data_dir is None
        if is_ours and job.error.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            say("With --data-dir DIR the service's logs are kept, in DIR/logs.")

    def _show(self, paths: list[Path]) -> None:
        """The result on standard output, and where its files are."""
        result = self.arguments.output / RESULT_FILE
        if result not in paths:
            raise ServiceFault("The job has no result.json.")
        written = result.read_bytes()
        saved = f"Saved {_named(paths)} to {self.arguments.output}/"
        if self.arguments.json:
            write(written)
            say(saved)
            return
        try:
            document = ResultDocument.model_validate_json(written, extra="ignore")
        except ValidationError as error:
            raise ServiceFault(
                f"{saved}, but this version cannot summarise that result."
            ) from error
        # A column would read `[1]` or `:smile:` in a text as markup.
        console = Console(markup=False, highlight=False, emoji=False)
        with console.capture() as printed:
            for part in summary(document):
                console.print(part)
                console.print()
        lines = [line.rstrip() for line in printed.get().splitlines()]
        write("\n".join([*lines, saved]))


def _settled(arguments: Arguments) -> Arguments:
    """The same with `url` and `job` as the service takes them. Raises UsageProblem."""
    url, job = arguments.url, arguments.job
    if job is not None and JOBS_PATH in job:
        url, _, job = job.partition(f"{JOBS_PATH}/")
        job = job.partition("/")[0]
    if job is not None and (flags := given_flags(arguments)):
        raise UsageProblem(f"{flags[0]} belongs to a new job, and --job names an earlier one.")
    if job is not None and not arguments.wait:
        raise UsageProblem("--job fetches a job when it has ended: leave --no-wait out.")
    if job is not None and url is None:
        raise UsageProblem("--job needs the service that has it: give --url, or the job's URL.")
    if url is None and not arguments.wait:
        raise UsageProblem("--no-wait needs --url: a service started here ends with the command.")
    if url is not None and arguments.data_dir is not None:
        raise UsageProblem(
            f"--data-dir is for the service that is started here, and {url} (--url, "
            f"{URL_VARIABLE}) is another: give one of the two."
        )
    if url is not None:
        url = _url(url)
    return replace(arguments, url=url, job=job)


def _url(written: str) -> str:
    """An address with its scheme. Raises UsageProblem."""
    try:
        url = address(written)
    except ValueError as error:
        raise UsageProblem(f"--url: {error}") from error
    try:
        authorization(url)
    except ValueError as error:
        raise UsageProblem(f"{KEY_VARIABLE}: {error}") from error
    return url


def _require_writable(output: Path) -> None:
    """Look before anything is computed for it; nothing is made yet. Raises UsageProblem."""
    there = output.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UsageProblem(f"--output {output}: {there} is no directory.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageProblem(f"--output {output}: {there} cannot be written to.")


@contextmanager
def _service(arguments: Arguments, told: Teller) -> Iterator[Service]:
    """The service at --url, or one that lives as long as this context.

    Raises StackError, and UsageProblem for settings in the environment that it could not run with.
    """
    if arguments.url is not None:
        with connect(arguments.url, away=told.notice) as service:
            yield service
        return
    read_settings()
    told.stage("starting", "a store, the API and a worker; the first start compiles kernels")
    with (
        _folder(arguments.data_dir) as folder,
        Stack(data_dir=folder, port=0, notice=told.notice) as stack,
        connect(stack.url, away=told.notice, ours=True) as service,
    ):
        yield service
        told.stage("stopping")


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    """The data directory; a temporary one is removed, unless the logs in it say why no start."""
    folder = data_dir or Path(tempfile.mkdtemp(prefix="mambascope-"))
    try:
        yield folder
    except StackError:
        data_dir = folder
        raise
    finally:
        if data_dir is None:
            rmtree(folder, ignore_errors=True)


def _named(paths: list[Path]) -> str:
    figures = sum(path.suffix == ".png" for path in paths)
    names = [RESULT_FILE]
    names += [counted(figures, "figure")] if figures else []
    names += [TENSORS_FILE] if any(path.name == TENSORS_FILE for path in paths) else []
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
