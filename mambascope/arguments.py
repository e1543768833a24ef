"""What can be typed after `mambascope analyze`, read with argparse.

Typer takes one value per flag, and users give lists as they do in scripts of the field:
`--layers 0 6 12 18`. argparse reads those (nargs="+"), so this command hands it its arguments as
they were typed.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mambascope.client.connecting import URL_VARIABLE
from mambascope.usage import WRONG_USAGE
from schemas.names import DEFAULT_METHODS, Method

PROGRAM = "mambascope analyze"
DEFAULT_OUTPUT = Path("mambascope-output")


@dataclass(frozen=True)
class TextsFrom:
    """Texts as they were asked for: one given on the line, or a file's."""

    value: str
    is_file: bool


@dataclass(frozen=True)
class Arguments:
    """What was typed; None is what was not, and stays as the service has it."""

    models: list[str] | None
    texts: list[TextsFrom] | None
    layers: list[int | str] | None
    target_position: int | None
    target_token: str | None
    contrast: str | None
    attention: bool | None
    attention_layers: list[int | str] | None
    attention_methods: list[str] | None
    rows: str | None
    neurons: bool | None
    top_k: int | None
    figures: bool | None
    tensors: bool | None
    seed: int | None
    request: str | None
    url: str | None
    data_dir: Path | None
    job: str | None
    wait: bool
    timeout: float | None
    output: Path
    json: bool


def parse(typed: Sequence[str]) -> Arguments:
    """The arguments. Ends the process with exit code 2 where they are wrong, 0 after --help."""
    return Arguments(**vars(_parser().parse_args(_hyphened(typed))))


def _hyphened(typed: Sequence[str]) -> list[str]:
    """The same with `-` for `_` in flags: `--attention_layers`, `--no-enable_attention`."""
    read = []
    for word in typed:
        flag, equals, value = word.partition("=")
        read.append(flag.replace("_", "-") + equals + value if word.startswith("--") else word)
    return read


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line, without all of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"mambascope: {message}\nTry `{PROGRAM} --help`.\n")


def _layer(written: str) -> int | str:
    if written == "all":
        return written
    # argparse shows the message of this error alone.
    if not written.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{written!r} is no layer: give numbers from 0 on, separated by spaces, or `all`"
        )
    return int(written)


def _seconds(written: str) -> float:
    try:
        seconds = float(written)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{written!r} is no number of seconds above 0")
    return seconds


def _text(written: str) -> TextsFrom:
    return TextsFrom(written, is_file=False)


def _file(written: str) -> TextsFrom:
    return TextsFrom(written, is_file=True)


_DESCRIPTION = """\
Ask which tokens and which neurons made the models say what they said: submit
one job, follow it, save its files and print a summary. Without --url a service
is started for it on this machine and stopped afterwards. What is not given is
the service's default.
"""
_EPILOG = """\
exit codes:
  0    the job succeeded and its files are saved; --no-wait: it is accepted
  1    the job failed, or the service broke or did not start; the problem is
       printed
  2    wrong usage, or a request that the service refuses; each error names the
       flag that it is about
  3    the service cannot be reached
  4    the job has not ended within --timeout
  130  interrupted (Ctrl-C, SIGTERM); a job at --url goes on, and how to fetch
       it is printed

examples:
  mambascope analyze --text "apple 3 river 7 stone 1 river"
  mambascope analyze --models state-spaces/mamba-130m-hf gpt2 \\
      --texts prompts.txt --layers 0 6 --attention-methods attention_weighted
  generate | mambascope analyze --texts - --json | jq .results[0].target

Flags that take several values may also be repeated, and every flag may be
written with _ for -. A value that starts with - follows an equals sign:
--text="-1 + 1 =".
"""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--models MODEL ...] --texts FILE [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_subject(parser.add_argument_group("what is analysed"))
    _add_analyses(parser.add_argument_group("which analyses"))
    _add_products(parser.add_argument_group("what comes out"))
    _add_service(parser.add_argument_group("where it runs"))
    return parser


def _add_subject(group: Any) -> None:
    _add_list(
        group,
        "--models",
        metavar="MODEL",
        help="bundled models, directories under MAMBASCOPE_MODEL_DIR, Hugging Face ids; each "
        "reads every text (default: pocket/recall-mamba)",
    )
    _add_list(
        group,
        "--texts",
        dest="texts",
        type=_file,
        metavar="FILE",
        help="one text a line, blank lines left out; - is standard input. A .json file holds a "
        'list of strings, a .jsonl file an object with "text" a line',
    )
    group.add_argument(
        "--text",
        dest="texts",
        action="append",
        type=_text,
        metavar="TEXT",
        help="one text; may be repeated",
    )
    _add_list(
        group,
        "--layers",
        type=_layer,
        metavar="LAYER",
        help="layer indices, or `all` (default: four evenly spaced layers)",
    )
    group.add_argument(
        "--target-position",
        type=int,
        metavar="POSITION",
        help="token whose next-token logits are read; negative counts from the end (default: -1)",
    )
    group.add_argument(
        "--target-token",
        metavar="TOKEN",
        help="the explained next token, exactly one (default: the model's own top token)",
    )
    group.add_argument(
        "--contrast", metavar="TOKEN", help="a token whose logit is subtracted (default: none)"
    )


def _add_analyses(group: Any) -> None:
    group.add_argument(
        "--enable-attention",
        dest="attention",
        action=argparse.BooleanOptionalAction,
        help="read the hidden attention (default: yes)",
    )
    _add_list(
        group,
        "--attention-layers",
        type=_layer,
        metavar="LAYER",
        help="layer indices of the attention, or `all` (default: those of --layers)",
    )
    names = [method.value for method in Method]
    _add_list(
        group,
        "--attention-methods",
        choices=names,
        metavar="METHOD",
        help=f"how it is read: {', '.join(names)} (default: {', '.join(DEFAULT_METHODS)})",
    )
    group.add_argument(
        "--rows",
        choices=("target", "all"),
        help="rows of each method's matrix: the target position's only, or every query "
        "position's (default: all, but of contribution the target's)",
    )
    group.add_argument(
        "--neurons",
        action=argparse.BooleanOptionalAction,
        help="measure the neurons, over all tokens of all texts (default: yes)",
    )
    group.add_argument(
        "--top-k", type=int, metavar="K", help="length of each ranking of neurons (default: 10)"
    )
    group.add_argument(
        "--seed", type=int, help="of what is drawn at random, such as bootstraps (default: 0)"
    )
    group.add_argument(
        "--request",
        metavar="FILE",
        help="a JSON object as POST /v1/jobs takes it, - for standard input: for the sections that "
        "have no flags (knowledge_neurons, perturbation, universality) and all others. Flags "
        "stand above it",
    )


def _add_products(group: Any) -> None:
    group.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="where result.json, images/*.png and tensors.safetensors go; in a directory that "
        "exists, files of the same names are replaced and others stay (default: %(default)s)",
    )
    group.add_argument(
        "--figures", action=argparse.BooleanOptionalAction, help="draw PNG figures (default: yes)"
    )
    group.add_argument(
        "--tensors",
        action=argparse.BooleanOptionalAction,
        help="store matrices and vectors as safetensors (default: no)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="print the result document, and nothing else, on standard output; with --no-wait the "
        "job",
    )


def _add_service(group: Any) -> None:
    group.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or None,
        help=f"a running service, such as http://localhost:8090 (default: ${URL_VARIABLE})",
    )
    group.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the service that is started keeps jobs and logs (default: a temporary "
        "directory)",
    )
    group.add_argument(
        "--wait", action="store_true", default=True, help="wait for the job's end (default)"
    )
    group.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="print the job's URL once it is accepted, and leave it to the service at --url",
    )
    group.add_argument(
        "--job",
        metavar="ID",
        help="fetch a job that was submitted earlier, in place of a new one: its id with --url, "
        "or its URL",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up when the job has not ended so long after it was accepted (default: never)",
    )


def _add_list(group: Any, flag: str, **keywords: Any) -> None:
    """A flag that takes several values, and may be repeated."""
    group.add_argument(flag, nargs="+", action="extend", **keywords)
