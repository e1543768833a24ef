"""Pydantic's complaints as sentences that say how to mend a request."""

from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.problem import FieldError, ProblemError, ProblemType, and_more
from schemas.request import JobRequest
from service.intake.body import MAX_FAULTS, pointer_to

Path = tuple[str | int, ...]

# Nothing that lies deeper is looked at member by member.
_DEPTH = 3
_MAX_MEMBERS = 10_000


def validate_request(value: dict[str, Any]) -> JobRequest:
    """The request in a parsed body. Raises ProblemError(INVALID_REQUEST) naming every field."""
    oversized = list(_oversized(value))
    if oversized:
        raise _refusal(oversized)
    try:
        return JobRequest.model_validate(value)
    except ValidationError as error:
        errors = list(islice(_field_errors(error.errors(include_url=False), value), MAX_FAULTS))
        raise _refusal(errors) from None


def _refusal(errors: list[FieldError]) -> ProblemError:
    first = errors[0]
    detail = f"{first.pointer or 'The body'}: {first.detail}{and_more(errors)}"
    return ProblemError(ProblemType.INVALID_REQUEST, detail, errors)


def _oversized(value: dict[str, Any]) -> Iterator[FieldError]:
    """Lists and objects so long that complaining of each member would cost more than it helps."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(_DEPTH):
        for pointer, item in level:
            if isinstance(item, dict | list) and len(item) > _MAX_MEMBERS:
                detail = f"Give at most {_MAX_MEMBERS}; there are {len(item)}."
                yield FieldError(pointer=pointer, detail=detail)
                return
        level = [
            (pointer_to(pointer, name), member)
            for pointer, item in level
            if isinstance(item, dict)
            for name, member in item.items()
        ]


def _field_errors(complaints: list[ErrorDetails], value: Any) -> Iterator[FieldError]:
    """One error per fault: a union complains once per branch, of which one sentence is made."""
    located = [(_path(complaint, value), complaint) for complaint in complaints]
    count = Counter(path for path, _ in located)
    parents = {path[:end] for path in count for end in range(len(path))}
    told: set[Path] = set()
    for path, complaint in located:
        if path in told or path in parents:
            continue
        told.add(path)
        pointer = ""
        for step in path:
            pointer = pointer_to(pointer, step)
        detail = _of_field(path) if count[path] > 1 else _sentence(path, complaint)
        yield FieldError(pointer=pointer, detail=detail)


def _path(complaint: ErrorDetails, value: Any) -> Path:
    """The complaint's location without the names of union branches, which are in no request."""
    path: list[str | int] = []
    for step in complaint["loc"]:
        is_key = isinstance(value, dict) and step in value
        is_index = isinstance(value, list) and isinstance(step, int)
        if is_key or is_index:
            value = value[step]
        elif complaint["type"] != "missing":
            continue
        path.append(step)
    return tuple(path)


def _sentence(path: Path, complaint: ErrorDetails) -> str:
    kind, given = complaint["type"], complaint["input"]
    limits: Mapping[str, Any] = complaint.get("ctx", {})
    if kind == "missing":
        return f"`{path[-1]}` is required."
    if kind == "extra_forbidden":
        return _unknown_field(path)
    if kind in _EXPECTED:
        return f"Give {_EXPECTED[kind]}, not {_kind(given)}."
    if kind == "string_pattern_mismatch" and _name(path) in _FORMS:
        return _FORMS[_name(path)]
    if kind in _LIMITS:
        # Of objects, pydantic does not tell the length.
        actual = {"actual_length": len(given)} if isinstance(given, list | dict) else {}
        return _LIMITS[kind].format(**{**limits, **actual})
    if kind in ("enum", "literal_error"):
        known = str(limits["expected"]).replace("'", "").replace(" or ", ", ")
        shown = _kind(given)
        return f"{shown[:1].upper()}{shown[1:]} is not known here. Use one of: {known}."
    if kind == "value_error":
        said = str(limits["error"])
        return f"{said[:1].upper()}{said[1:]}."
    return f"{complaint['msg']}."


_EXPECTED = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
# What a string must look like, by the field that holds it.
_FORMS = {
    "models": "Name a model as `name` or `owner/name`, of letters, digits, `.`, `_` and `-`. "
    "/v1/models lists them.",
    "url": "Give a URL that begins with `https://` or `http://` and names a host, without spaces "
    "and without a `#`.",
    "secret": "Give `whsec_` and base64 of 24 to 64 bytes.",
}
_LIMITS = {
    "string_too_short": "Give at least {min_length} character; this is empty.",
    "too_short": "Give at least {min_length}; there are {actual_length}.",
    "too_long": "Give at most {max_length}; there are {actual_length}.",
    "greater_than_equal": "Give a number of at least {ge}.",
    "less_than_equal": "Give a number of at most {le}.",
    "less_than": "Give a number below {lt}.",
}


def _kind(given: object) -> str:
    """What was given, in JSON's words; long strings, which may be a user's text, are not shown."""
    if isinstance(given, str):
        return f"`{given}`" if len(given) <= 40 else "a string"
    if given is None:
        return "null"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int | float):
        return f"the number {given}"
    return "a list" if isinstance(given, list) else "an object"


def _unknown_field(path: Path) -> str:
    model = _model_at(path[:-1])
    known = list(model.model_fields)
    close = get_close_matches(str(path[-1]), known, n=1)
    hint = f"Did you mean `{close[0]}`? " if close else ""
    return f"There is no such field. {hint}Known here: {', '.join(known)}."


def _model_at(path: Path) -> type[BaseModel]:
    """The contract's model of the object at a path that pydantic has walked."""
    model: type[BaseModel] = JobRequest
    for step in path:
        if isinstance(step, str):
            annotation = model.model_fields[step].annotation
            model = next(kind for kind in _members(annotation) if _is_model(kind))
    return model


def _name(path: Path) -> str:
    """The field that a value, or the list that it is in, is given for."""
    return next(step for step in reversed(path) if isinstance(step, str))


def _of_field(path: Path) -> str:
    name = _name(path)
    owner = path[: len(path) - path[::-1].index(name) - 1]
    field = _model_at(owner).model_fields[name]
    names = _names(field.annotation)
    if names:
        return f"Give one of these: {', '.join(names)}."
    return f"Give one of these: {field.description}."


def _names(annotation: Any) -> list[str]:
    """Every value that a field may have, null aside, where all of them are names; else none."""
    found: list[str] = []
    for member in _members(annotation):
        if get_origin(member) is Literal:
            found += get_args(member)
        elif isinstance(member, type) and issubclass(member, StrEnum):
            found += [each.value for each in member]
        elif member is not NoneType:
            return []
    return found


def _members(annotation: Any) -> Iterator[Any]:
    """What a value may be, or the members of a list of them."""
    if get_origin(annotation) in (Union, UnionType, list, Annotated):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
