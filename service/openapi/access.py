"""What the OpenAPI document says of keys and limits, alike for every path of the API."""

from schemas.problem import ProblemType
from service.access.gate import is_guarded
from service.openapi.parts import Json, answer_header

_SCHEME = "key"
_LIMIT_HEADERS = {
    "RateLimit-Policy": 'What the key may do, such as `"requests";q=60;w=60`; limited keys only',
    "RateLimit": "What is left of it, and in how many seconds there is more; limited keys only",
}
_RETRY = {"Retry-After": "Seconds until asking again makes sense"}
_CHALLENGE = {"WWW-Authenticate": "`Bearer`, and `error` where a wrong key came (RFC 6750)"}


def describe_access(document: Json, problems: dict[int | str, Json]) -> None:
    """Add the key, its limits and the `problems` of both to a document, in place."""
    document["components"]["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "msk_...",
            "description": "A key of `mambascope keys create`. Not needed while none was made.",
        }
    }
    for path, operations in document["paths"].items():
        for operation in operations.values() if is_guarded(path) else ():
            # The empty one says that it may be left out.
            operation["security"] = [{_SCHEME: []}, {}]
            _add_answers(operation["responses"], problems)


def _add_answers(responses: Json, problems: dict[int | str, Json]) -> None:
    for status, described in responses.items():
        if status != "default":
            _add_headers(described, _LIMIT_HEADERS)
    unauthenticated = problems[ProblemType.UNAUTHENTICATED.status]
    limited = problems[ProblemType.RATE_LIMIT.status]
    responses["401"] = {**unauthenticated}
    _add_headers(responses["401"], _CHALLENGE)
    named = responses.setdefault("429", limited)
    if named is not limited:
        examples = _examples(limited) | _examples(named)
        named["description"] = f"{limited['description']}; or: {named['description']}"
        named["content"]["application/problem+json"]["examples"] = examples
    _add_headers(named, _LIMIT_HEADERS | _RETRY)
    default = responses.pop("default")
    ordered = dict(sorted(responses.items())) | {"default": default}
    responses.clear()
    responses.update(ordered)


def _examples(response: Json) -> Json:
    found: Json = response["content"]["application/problem+json"]["examples"]
    return found


def _add_headers(response: Json, described: dict[str, str]) -> None:
    headers = {name: answer_header(description) for name, description in described.items()}
    response["headers"] = response.get("headers", {}) | headers
