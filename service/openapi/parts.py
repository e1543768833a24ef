"""What all of the OpenAPI document is made of."""

from typing import Any

Json = dict[str, Any]

# The path of a schema in the document.
REFERENCE = "#/components/schemas/{model}"


def parameter(name: str, description: str, schema: Json, where: str = "query") -> Json:
    """A query parameter of a route, which may be left out."""
    return {"name": name, "in": where, "description": description, "schema": schema}


def request_header(name: str, description: str, limits: Json | None = None) -> Json:
    """A header of a request, which may be left out; `limits` are of its text."""
    return parameter(name, description, {"type": "string"} | (limits or {}), where="header")


def answer_header(description: str) -> Json:
    """A header of an answer."""
    return {"description": description, "schema": {"type": "string"}}
