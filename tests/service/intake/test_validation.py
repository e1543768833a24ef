"""Bodies that are made to be expensive, and pointers that are hard to write."""

from typing import Any

import pytest

from schemas.names import Method, Ranking
from schemas.problem import FieldError, ProblemError, ProblemType
from service.intake.body import MAX_FAULTS, parse_object
from service.intake.validation import validate_request


def errors_of(value: dict[str, Any]) -> list[FieldError]:
    with pytest.raises(ProblemError) as caught:
        validate_request(value)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    return caught.value.problem.errors


def test_a_multitude_of_faults_is_cut_short() -> None:
    assert len(errors_of({"texts": [1] * 9_000})) == MAX_FAULTS
    assert len(errors_of({"texts": ["a"]} | {f"x{i}": 1 for i in range(9_000)})) == MAX_FAULTS


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"texts": ["a"], "layers": ["x"] * 200_000}, "/layers"),
        ({"texts": ["a"], "attention": {"methods": ["x"] * 200_000}}, "/attention/methods"),
        ({f"x{i}": 1 for i in range(200_000)}, ""),
        ({"texts": ["a"], "metadata": {f"x{i}": 1 for i in range(200_000)}}, "/metadata"),
    ],
)
def test_members_without_number_are_not_looked_at_one_by_one(
    value: dict[str, Any], pointer: str
) -> None:
    [error] = errors_of(value)
    assert error.pointer == pointer
    assert "at most 10000" in error.detail


def test_too_many_members_are_counted() -> None:
    [error] = errors_of({"texts": ["a"], "metadata": {str(i): "" for i in range(33)}})
    assert error.detail == "Give at most 32; there are 33."


def test_a_union_is_one_fault_at_its_deepest_place() -> None:
    found = errors_of({"texts": ["a"], "layers": [0, -1, "x"]})
    assert [error.pointer for error in found] == ["/layers/1", "/layers/2"]
    [error] = errors_of({"texts": ["a"], "layers": {"list": 1}})
    assert error.pointer == "/layers"


@pytest.mark.parametrize("given", ["kurtosis", 5])
def test_what_may_be_one_of_several_kinds_of_name_lists_all_of_them(given: object) -> None:
    asked = {"texts": ["a"], "perturbation": {"sets": [{"found_by": given}]}}
    [error] = errors_of(asked)
    assert error.pointer == "/perturbation/sets/0/found_by"
    names = error.detail.removeprefix("Give one of these: ").removesuffix(".").split(", ")
    assert set(names) == {*Ranking, *Method, "knowledge_neurons"}


def test_long_values_are_not_repeated() -> None:
    [error] = errors_of({"texts": "a user's secret text, which is long enough to be left out"})
    assert "secret" not in error.detail


def flaws_of(body: bytes) -> tuple[ProblemType, list[str]]:
    with pytest.raises(ProblemError) as caught:
        parse_object(body)
    return caught.value.kind, [error.pointer for error in caught.value.problem.errors]


def test_flaws_are_pointed_to_wherever_they_are() -> None:
    kind, pointers = flaws_of(b'{"a": [1, {"b/~": NaN}], "c": Infinity}')
    assert kind is ProblemType.MALFORMED_JSON
    assert pointers == ["/a/1/b~1~0", "/c"]
    kind, pointers = flaws_of(b'{"a": {"b": 1, "b": 2, "c": 3}}')
    assert kind is ProblemType.INVALID_REQUEST
    assert pointers == ["/a/b"]
    assert flaws_of(b'{"a\\udc00": 1}') == (ProblemType.INVALID_REQUEST, [""])


def test_paired_surrogates_are_a_character() -> None:
    assert parse_object(b'{"a": "\\ud83d\\udc0d"}') == {"a": "\N{SNAKE}"}


def test_flaws_without_number_are_cut_short() -> None:
    _, pointers = flaws_of(b'{"a": [' + b"NaN," * 100_000 + b"1]}")
    assert len(pointers) == MAX_FAULTS
