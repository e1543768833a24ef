"""A request as it is written in Python: every field of `JobRequest` by name."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

from pydantic import BaseModel

from schemas.request import Target, Webhook
from schemas.sections import (
    AttentionSection,
    KnowledgeNeuronSection,
    NeuronSection,
    PerturbationSection,
    UniversalitySection,
)

Written = Mapping[str, Any]
"""A section as a dictionary, in place of its model."""

F = TypeVar("F", bound=Callable[..., Any])


class RequestFields(TypedDict, total=False):
    """The fields of `JobRequest` but `texts`; what is not given is as the service has it.

    A section is its model of `schemas` or a dictionary, and None switches it off.
    """

    models: str | Sequence[str]
    layers: int | Iterable[int] | Literal["all"] | None
    target: Target | Written
    attention: AttentionSection | Written | None
    neurons: NeuronSection | Written | None
    knowledge_neurons: KnowledgeNeuronSection | Written | None
    perturbation: PerturbationSection | Written | None
    universality: UniversalitySection | Written | None
    figures: bool
    tensors: bool
    webhook: Webhook | Written | None
    reuse: bool
    metadata: Mapping[str, str]
    seed: int


def body(texts: str | Iterable[str], fields: RequestFields) -> dict[str, Any]:
    """The request as JSON has it; one text, model or layer may stand without a list.

    Raises TypeError for a field that there is not. What the fields hold is the service's to judge.
    """
    given: dict[str, Any] = {"texts": texts, **fields}
    known = get_type_hints(RequestFields)
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean `{near[0]}`?" if near else f". There are {', '.join(known)}."
            raise TypeError(f"A request has no field `{name}`{hint}")
    for name in ("texts", "models", "layers"):
        value = given.get(name)
        is_whole = name == "layers" and isinstance(value, str)
        if isinstance(value, str | int) and not is_whole:
            given[name] = [value]
    return {name: plain(value) for name, value in given.items()}


def plain(value: Any) -> Any:
    """Models, enumerations, arrays and series as JSON has them. Raises TypeError for others."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [plain(inner) for inner in value]
    raise TypeError(f"{value!r} is nothing that JSON has: give text, numbers, lists or `schemas`.")


def spelled(function: F) -> F:
    """The function, whose signature shows people each name of its `**fields`."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=hint)
        for name, hint in get_type_hints(RequestFields).items()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=[*kept, *names])
    return function
