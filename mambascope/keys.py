"""`mambascope keys`: who may call the service, and how much."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mambascope.keyring import Keyring, KeyringError
from mambascope.usage import WRONG_USAGE, UsageProblem, read_settings
from mambascope.visible import visible
from schemas.access import MOST_REQUESTS_PER_MINUTE, AccessKey, KeyLimits, NewKey

_NO_SUCH_KEY = 1
_KEYS = TypeAdapter(list[AccessKey])

app = typer.Typer(
    help="API keys: who may call the service, and how much. While none was ever made, whoever "
    "reaches it may.",
    no_args_is_help=True,
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="That of the `mambascope up` they are for; MAMBASCOPE_REDIS_URL stands above it.",
        show_default=".mambascope",
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is or what it is for.")],
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_REQUESTS_PER_MINUTE,
            help="Requests in any 60 seconds.",
            show_default="no limit",
        ),
    ] = None,
    queued_jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=2**31 - 1, help="Jobs that wait at one time.", show_default="no limit"
        ),
    ] = None,
    tokens_per_day: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**53 - 1,
            help="Tokens of accepted jobs, texts times models, in a day of UTC.",
            show_default="no limit",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key, and print it: it is alone on standard output, and cannot be shown again."""
    limits = KeyLimits(
        requests_per_minute=requests_per_minute,
        queued_jobs=queued_jobs,
        tokens_per_day=tokens_per_day,
    )
    try:
        new = NewKey(name=name, limits=limits)
    except ValidationError as error:
        _refuse(f"NAME: {error.errors()[0]['msg']}.", WRONG_USAGE)
    with _keyring(data_dir) as keyring:
        made = keyring.create(new)
    typer.echo(made.key)
    _say(
        f"Key {made.about.id} is made and is not shown again. Send it as `Authorization: Bearer "
        "msk_...`, or set MAMBASCOPE_KEY to it."
    )
    if made.is_first:
        _say(
            "It is the first: within seconds the service asks everyone for a key, and jobs that "
            "were made without one are seen by nobody."
        )


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show every key that was ever made, but for what is secret of it."""
    with _keyring(data_dir) as keyring:
        keys = keyring.listed()
    if as_json:
        typer.echo(_KEYS.dump_json(keys, indent=2).decode())
    elif keys:
        Console().print(_table(keys))
    else:
        _say("No key was ever made, so whoever reaches the service may use it.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `mambascope keys list` shows.")],
    data_dir: DataDir = None,
) -> None:
    """End a key for good, within five seconds. Its jobs stay, and nobody sees them."""
    with _keyring(data_dir) as keyring:
        revoked = keyring.revoke(key_id)
    if revoked is None:
        _refuse(f"there is no key {visible(key_id)}: see `mambascope keys list`.", _NO_SUCH_KEY)
    _say(f"Key {revoked.id} ({visible(revoked.name)}) was revoked {_moment(revoked.revoked_at)}.")


@contextmanager
def _keyring(data_dir: Path | None) -> Iterator[Keyring]:
    """The keys that a command is about; what goes wrong with them ends it."""
    try:
        yield Keyring.of(read_settings(data_dir=data_dir))
    except (UsageProblem, KeyringError) as problem:
        _refuse(str(problem), WRONG_USAGE)


def _table(keys: list[AccessKey]) -> Table:
    table = Table("id", "name", "made (UTC)", "last used", "revoked", "limits")
    for column in table.columns:
        # A date fits, and breaks before its time.
        column.min_width = 10
    for key in keys:
        moments = (key.created_at, key.last_used_at, key.revoked_at)
        limits = (
            (key.limits.requests_per_minute, "requests a minute"),
            (key.limits.queued_jobs, "queued jobs"),
            (key.limits.tokens_per_day, "tokens a day"),
        )
        told = "\n".join(f"{limit} {what}" for limit, what in limits if limit is not None)
        table.add_row(key.id, escape(visible(key.name)), *map(_moment, moments), told or "none")
    return table


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _refuse(message: str, code: int) -> NoReturn:
    typer.echo(f"mambascope: {message}", err=True)
    raise typer.Exit(code)
