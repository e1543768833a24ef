"""What is printed of a problem."""

import pytest

from mambascope.printing import tell
from schemas.problem import FieldError, Problem, ProblemType


def test_missing_key_is_said_with_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    error = FieldError(parameter="Authorization", detail="This service asks for a key.")
    tell(Problem.of(ProblemType.UNAUTHENTICATED, error.detail, [error]), None)
    assert capsys.readouterr().err.splitlines() == [
        "mambascope: A valid key is needed.",
        "  Authorization: This service asks for a key.",
        "  MAMBASCOPE_KEY is where this command looks for the key.",
    ]
