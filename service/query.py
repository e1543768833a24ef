"""Query parameters, strictly: one that is unknown, repeated or no value of its kind is refused."""

from enum import StrEnum
from typing import NoReturn, TypeVar

from fastapi import Request

from schemas.problem import FieldError, ProblemError

E = TypeVar("E", bound=StrEnum)


class Query:
    """The parameters of one request. Raises ProblemError(INVALID_REQUEST) naming the parameter."""

    def __init__(self, request: Request, *known: str) -> None:
        self._given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                listed = ", ".join(f"`{each}`" for each in known)
                self.refuse(name[:60], f"There is no such parameter. Known here: {listed}.")
            if name in self._given:
                self.refuse(name, "Give it once.")
            self._given[name] = value

    def text(self, name: str) -> str | None:
        """A string that is not empty."""
        value = self._given.get(name)
        if value == "":
            self.refuse(name, "It is empty: leave it out, or give a value.")
        return value

    def member(self, name: str, kind: type[E]) -> E | None:
        """One of the values of an enumeration."""
        value = self._given.get(name)
        if value is None:
            return None
        if value not in set(kind):
            self.refuse(name, f"Give one of: {', '.join(kind)}.")
        return kind(value)

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        value = self._given.get(name)
        if value is None:
            return None
        is_number = value.isascii() and value.isdecimal() and len(value) <= 12
        if not is_number or not low <= int(value) <= high:
            self.refuse(name, f"Give a whole number from {low} to {high}.")
        return int(value)

    def refuse(self, name: str, detail: str) -> NoReturn:
        """Say what is wrong with a parameter."""
        raise ProblemError.of_field(FieldError(parameter=name, detail=detail))
