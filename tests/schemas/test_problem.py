"""A problem can always be written."""

from schemas.problem import FieldError, ProblemError, ProblemType


def test_halves_of_characters_in_names_are_escaped() -> None:
    """A file may name a shard so, and a problem that cannot be stored kills who reports it."""
    wrong = FieldError(pointer="/models/0", detail="no \ud800")
    problem = ProblemError(ProblemType.MODEL_INVALID, "it names '\ud800.x'", [wrong]).problem
    assert problem.detail == "it names '\\ud800.x'"
    assert problem.errors[0].detail == "no \\ud800"
    assert problem.model_dump_json()
