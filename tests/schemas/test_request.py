"""What the request is made of."""

import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.request import JobRequest


def scalars(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a request that is a number, or true or false."""
    for name, field in model.model_fields.items():
        for member in members(field.annotation):
            if isinstance(member, type) and issubclass(member, BaseModel):
                yield from scalars(member, f"{path}/{name}")
            elif member in (bool, int, float):
                yield f"{path}/{name}", field


def members(annotation: object) -> Iterator[object]:
    if typing.get_origin(annotation) is typing.Annotated or annotation is None:
        return
    arguments = typing.get_args(annotation)
    for argument in arguments:
        yield from members(argument)
    if not arguments:
        yield annotation


def test_numbers_and_truth_values_come_as_such() -> None:
    """0 is not false and "1" is not 1: the OpenAPI document says so, and so does the service."""
    found = list(scalars(JobRequest))
    assert len(found) > 15
    lax = [
        path for path, field in found if not any(getattr(m, "strict", 0) for m in field.metadata)
    ]
    assert lax == []
