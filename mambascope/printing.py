"""What `mambascope analyze` prints: results on standard output, and all else on standard error."""

import os
import sys

from mambascope.asking import Asked
from mambascope.client.connecting import KEY_VARIABLE
from mambascope.client.errors import own_detail
from mambascope.visible import visible
from schemas.problem import FieldError, Problem, ProblemType


def write(text: str | bytes) -> None:
    """Write a line to standard output; that nobody reads on, as `head` does, is no failure."""
    encoded = text if isinstance(text, bytes) else _encoded(text)
    try:
        sys.stdout.buffer.write(encoded + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encoded(text: str) -> bytes:
    """As standard output takes it, with escapes for the characters that it lacks."""
    return text.encode(sys.stdout.encoding, "backslashreplace")


def say(line: str) -> None:
    """A line on standard error, beside the results."""
    print(line, file=sys.stderr)


def tell(problem: Problem, request: Asked | None) -> None:
    """A problem: its title, its detail, and each error by the flag that it came from."""
    say(f"mambascope: {visible(problem.title)}.")
    if detail := own_detail(problem):
        say(f"  {visible(detail)}")
    for error in problem.errors:
        say(f"  {visible(_place(error, request))}: {visible(error.detail)}")
    if problem.type == ProblemType.UNAUTHENTICATED.uri:
        say(f"  {KEY_VARIABLE} is where this command looks for the key.")


def _place(error: FieldError, request: Asked | None) -> str:
    """Where an error is: the flag that it came from, or a header, or a place in the request."""
    if error.parameter is not None:
        return error.parameter
    origin = request.origin(error.pointer) if request else None
    return f"{origin} ({error.pointer})" if origin else error.pointer or "request"
