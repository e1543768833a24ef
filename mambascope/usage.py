"""What is typed or set in the environment, and cannot be used."""

from typing import Any

from pydantic import ValidationError

from schemas.settings import Settings

WRONG_USAGE = 2
"""The exit code."""


class UsageProblem(Exception):  # noqa: N818 - it says what is the case
    """What was typed, or what it names, cannot be used; the message says how to mend it."""


def read_settings(**given: Any) -> Settings:
    """The settings: what was given on the command line, else the environment, else defaults.

    Raises UsageProblem, which names the variable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        name, *inside = wrong["loc"]
        key = "".join(f" (`{part}`)" for part in inside if isinstance(part, str))
        raise UsageProblem(f"MAMBASCOPE_{str(name).upper()}{key}: {wrong['msg']}.") from error
