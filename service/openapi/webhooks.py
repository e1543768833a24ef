"""Webhooks as the OpenAPI document describes them."""

from datetime import UTC, datetime
from typing import get_args

from jobs.view import links_of
from schemas.names import Status
from schemas.problem import Problem, ProblemType
from schemas.webhook import EventType, JobOutcome, WebhookEvent
from service.openapi.examples import JOB_ID
from service.openapi.parts import REFERENCE, Json

_HEADERS = {
    "webhook-id": ("The event: the same at every attempt, so a repeated one is known", "string"),
    "webhook-timestamp": ("When this attempt was made, Unix seconds", "integer"),
    "webhook-signature": (
        "`v1,` and base64 of HMAC-SHA256, under the bytes of the secret, of "
        "`{webhook-id}.{webhook-timestamp}.{body}`",
        "string",
    ),
}


def webhooks() -> Json:
    """The document's `webhooks`."""
    return {kind: {"post": _operation(kind)} for kind in get_args(EventType)}


def _operation(kind: EventType) -> Json:
    status = Status(kind.partition(".")[2])
    schema = {"$ref": REFERENCE.format(model="WebhookEvent")}
    example = {"value": _example(kind, status).model_dump(mode="json")}
    content = {"application/json": {"schema": schema, "examples": {kind: example}}}
    return {
        "operationId": kind.replace(".", "_"),
        "tags": ["jobs"],
        "summary": f"A job ended as {status}",
        "description": "Sent to `webhook.url` of the job, as Standard Webhooks 1.0 has it, at "
        "least once. Check the signature over the body's own bytes before you believe it.",
        "parameters": [_header(name, *described) for name, described in _HEADERS.items()],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "2XX": {"description": "It has arrived"},
            "410": {"description": "It is not to be sent again"},
            "default": {"description": "It is sent again later, after `Retry-After` if given"},
        },
    }


def _header(name: str, description: str, kind: str) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": description,
        "schema": {"type": kind},
    }


def _example(kind: EventType, status: Status) -> WebhookEvent:
    at = datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)
    lost = Problem.of(ProblemType.WORKER_LOST, "The worker died 3 times on this job.")
    outcome = JobOutcome(
        id=JOB_ID,
        status=status,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=at,
        error=lost if status is Status.FAILED else None,
        links=links_of(JOB_ID),
        metadata={"run": "17"},
    )
    return WebhookEvent(type=kind, timestamp=at, data=outcome)
