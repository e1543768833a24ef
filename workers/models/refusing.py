"""The problem of a model that is refused, and the words for what a library said of it."""

from schemas.problem import ProblemError, ProblemType


def unsupported(name: str, why: str) -> ProblemError:
    """The problem of a model that nothing here can analyse."""
    return ProblemError(
        ProblemType.UNSUPPORTED_ARCHITECTURE, f"The model `{name}` cannot be analysed: {why}."
    )


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    if isinstance(error, KeyError) and len(error.args) == 1 and " " not in str(error.args[0]):
        return f"it names {error}, which is unknown"
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200].rstrip(".")
