"""The command line: `mambascope analyze`, `up`, `api`, `worker` and `keys`."""

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mambascope import keys
from mambascope.analyze import run
from mambascope.keyring import KeyringError, require_keys
from mambascope.stack import Stack, StackError
from mambascope.stopping import StopAsked, heed_signals
from mambascope.usage import WRONG_USAGE, UsageProblem, read_settings
from schemas.settings import Settings
from schemas.version import package_version

app = typer.Typer(
    help="Which tokens and which neurons made a language model say what it said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(keys.app, name="keys")

Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port, or 0 for any free one.", show_default="8090"),
]
Workers = Annotated[int, typer.Option(min=1, help="How many workers to run.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where jobs and results are kept.", show_default=".mambascope")
]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Allow an address that other machines reach.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show the log of every process here, not in files.")
]


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """What stands before the command."""
    if version:
        typer.echo(f"mambascope {package_version()}")
        raise typer.Exit


@app.command(
    # The arguments go to argparse as they were typed: see mambascope/arguments.py.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def analyze(context: typer.Context) -> None:
    """Ask what made models say what they said: submit a job, follow it, save and show its result.

    `mambascope analyze --help` lists its options and exit codes.
    """
    raise typer.Exit(run(context.args))


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    workers: Workers = 1,
    data_dir: DataDir = None,
    allow_remote: AllowRemote = False,
    verbose: Verbose = False,
) -> None:
    """Run everything in the foreground: store, API and workers.

    The store is an embedded Valkey, or the server that MAMBASCOPE_REDIS_URL names.
    """
    settings = _settings(host=host, port=port, data_dir=data_dir, allow_remote=allow_remote or None)
    external = "redis_url" in settings.model_fields_set
    stack = Stack(
        data_dir=settings.data_dir,
        host=settings.host,
        port=settings.port,
        workers=workers,
        allow_remote=settings.allow_remote,
        redis_url=settings.redis_url.get_secret_value() if external else None,
        verbose=verbose,
        notice=lambda line: typer.echo(line, err=True),
    )
    heed_signals()
    try:
        with stack:
            typer.echo(f"Mambascope is ready at {stack.url} (API docs at /docs). Ctrl-C stops it.")
            threading.Event().wait()
    except StopAsked:
        typer.echo("Stopped.")
    except StackError as error:
        _refuse(str(error))


@app.command()
def api(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    allow_remote: AllowRemote = False,
) -> None:
    """Run the API alone, on the store that MAMBASCOPE_REDIS_URL names."""
    settings = _settings(host=host, port=port, data_dir=data_dir, allow_remote=allow_remote or None)
    if not settings.allow_remote:
        try:
            require_keys(settings.host, settings.redis_url.get_secret_value())
        except KeyringError as error:
            _refuse(str(error))
    _become(
        "service",
        MAMBASCOPE_HOST=settings.host,
        MAMBASCOPE_PORT=str(settings.port),
        MAMBASCOPE_DATA_DIR=str(settings.data_dir),
        MAMBASCOPE_ALLOW_REMOTE=str(settings.allow_remote).lower(),
    )


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Run one worker alone, on the store that MAMBASCOPE_REDIS_URL names."""
    settings = _settings(data_dir=data_dir)
    _become("workers", MAMBASCOPE_DATA_DIR=str(settings.data_dir))


def main() -> None:
    """Entry point of `mambascope`."""
    app()


def _settings(**given: Any) -> Settings:
    try:
        return read_settings(**given)
    except UsageProblem as problem:
        _refuse(str(problem))


def _become(module: str, **environment: str) -> NoReturn:
    """Turn into `python -m module`."""
    os.execve(sys.executable, [sys.executable, "-m", module], {**os.environ, **environment})


def _refuse(message: str) -> NoReturn:
    typer.echo(f"mambascope: {message}", err=True)
    raise typer.Exit(WRONG_USAGE)
