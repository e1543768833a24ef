"""The OpenAPI document: schemas of the contract, problems and examples of every route."""

from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from catalogue.methods import methods
from jobs.view import links_of
from schemas.catalogue import (
    Health,
    LayerDescription,
    MethodList,
    ModelDescription,
    ModelList,
    ModelSummary,
    Readiness,
)
from schemas.job import Artifact, ArtifactList, Job, JobEvent, JobList, JobSummary, Progress, Shows
from schemas.names import (
    DEFAULT_MODEL,
    RESULT_FILE,
    ArtifactKind,
    Dtype,
    Happening,
    Method,
    Mixer,
    Status,
)
from schemas.problem import FieldError, Problem, ProblemType
from schemas.request import JobRequest
from schemas.result import ResultDocument
from schemas.webhook import WebhookEvent
from service.openapi_access import describe_access
from service.webhooks.description import webhooks

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_ANSWERS: tuple[type[BaseModel], ...] = (
    Job,
    JobEvent,
    JobList,
    ArtifactList,
    ResultDocument,
    ModelList,
    ModelDescription,
    MethodList,
    Health,
    Readiness,
    Problem,
    WebhookEvent,
)

# How many jobs a page holds if nothing is said, and at most.
PAGE, LARGEST_PAGE = 20, 100

_JOB_ID = "01KAQ3V9Q0Z7X3M5B8F2N6T4RC"
_JOB_PATH = f"/v1/jobs/{_JOB_ID}"
_REQUEST = JobRequest(texts=["apple 3 river 7 stone 1 river"], layers=[0, 1])

_EXAMPLES: dict[str, BaseModel] = {
    "job": Job(
        id=_JOB_ID,
        status=Status.QUEUED,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        queue_position=0,
        request=_REQUEST,
        links=links_of(_JOB_ID),
    ),
    "cancelled": Job(
        id=_JOB_ID,
        status=Status.CANCELLED,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=datetime(2026, 1, 1, second=1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 1, second=3, tzinfo=UTC),
        expires_at=datetime(2026, 1, 8, second=3, tzinfo=UTC),
        progress=Progress(fraction=0.4),
        attempts=1,
        request=_REQUEST,
        links=links_of(_JOB_ID),
    ),
    "jobs": JobList(
        jobs=[
            JobSummary(
                id=_JOB_ID,
                status=Status.QUEUED,
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                queue_position=0,
                models=_REQUEST.models,
                texts=1,
                links=links_of(_JOB_ID),
            )
        ],
        next_cursor="MDFLQVEzVjlRMFo3WDNNNUI4RjJONlQ0UkM",
    ),
    "artifacts": ArtifactList(
        job_id=_JOB_ID,
        artifacts=[
            Artifact(
                name=RESULT_FILE,
                kind=ArtifactKind.RESULT,
                media_type="application/json",
                size=48213,
                sha256="0" * 64,
                shows=Shows(),
                href=f"{_JOB_PATH}/artifacts/{RESULT_FILE}",
            )
        ],
    ),
    "models": ModelList(
        models=[
            ModelSummary(
                id=DEFAULT_MODEL, source="pocket", default=True, href=f"/v1/models/{DEFAULT_MODEL}"
            )
        ],
        allowed_hugging_face_ids=["state-spaces/mamba-*", "gpt2"],
    ),
    "model": ModelDescription(
        id=DEFAULT_MODEL,
        source="pocket",
        architecture="mamba",
        layers=[LayerDescription(layer=i, mixer=Mixer.S6, methods=list(Method)) for i in range(2)],
        hidden_size=64,
        channels=128,
        d_state=16,
        dt_rank=4,
        vocab_size=38,
        parameters=67904,
        stored_bytes=271616,
        dtype=Dtype.FLOAT32,
        max_tokens=4096,
        max_row_tokens=131072,
        default_layers=[0, 1],
        resident_on=[],
    ),
    "methods": MethodList(methods=methods()[:1]),
    "health": Health(version="0.1.0"),
    "readiness": Readiness(workers=1),
}

JOB_BODY: Json = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": _REFERENCE.format(model="JobRequest")},
            "examples": {
                "smallest": {"value": {"texts": ["apple 3 river 7 stone 1 river"]}},
                "told when it has ended": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river"],
                        "webhook": {
                            "url": "https://example.org/mambascope",
                            "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
                        },
                        "metadata": {"run": "17"},
                        "reuse": False,
                    }
                },
                "neurons and experiments": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river", "river 7 apple 3 house 2 river"],
                        "attention": None,
                        "neurons": {"attribution": True},
                        "knowledge_neurons": {
                            "facts": [{"prompt": "apple 3 river 7 stone 1 river", "answer": " 7"}]
                        },
                        "perturbation": {
                            "sets": [{"found_by": "knowledge_neurons"}],
                            "interventions": [{"kind": "zero"}],
                        },
                    }
                },
                "with a target": {
                    "value": {
                        "texts": ["apple 3 river 7 stone 1 river"],
                        "layers": "all",
                        "target": {"token": "7", "contrast": "3"},
                        "attention": {"methods": ["contribution"]},
                    }
                },
            },
        }
    },
}


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def parameter(name: str, description: str, schema: Json, where: str = "query") -> Json:
    """A query parameter or header of a route, which may be left out."""
    return {"name": name, "in": where, "description": description, "schema": schema}


ONCE_PARAMETER = parameter(
    "Idempotency-Key",
    "Yours, new for each request: sent again with the same request, it gives the same job",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    where="header",
)
LIST_PARAMETERS = [
    parameter("status", "Only jobs that stand so", {"type": "string", "enum": list(Status)}),
    parameter("model", "Only jobs that name this model", {"type": "string", "minLength": 1}),
    parameter("cursor", "`next_cursor` of the page before", {"type": "string", "minLength": 1}),
    parameter(
        "limit",
        "How many at most",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
    ),
]
POLL_HEADERS: Json = {
    "Retry-After": _header("Seconds until asking again makes sense; absent once the job has ended")
}
STATE_HEADERS: Json = {
    "ETag": _header("Names how the job stands, for If-None-Match: a weak validator"),
    **POLL_HEADERS,
}
SUBMIT_HEADERS: Json = {
    "Location": _header("Path of the job on this service"),
    "Idempotency-Replayed": _header("`true` where this key had made the job before"),
    **POLL_HEADERS,
}
_VALIDATORS: Json = {
    "ETag": _header("A validator: the SHA-256 of the bytes, or of the digests of an archive's"),
    "Cache-Control": _header("The bytes never change"),
}
ARCHIVE_HEADERS: Json = _VALIDATORS | {
    "Accept-Ranges": _header("`bytes`: any part can be had by itself"),
    "Content-Disposition": _header("The name to save it under"),
}
FILE_HEADERS: Json = ARCHIVE_HEADERS | {
    "Repr-Digest": _header("SHA-256 of all bytes (RFC 9530); absent where they are compressed")
}
PART_HEADERS: Json = FILE_HEADERS | {"Content-Range": _header("Which bytes, and of how many")}
NOT_MODIFIED: Json = {"description": "If-None-Match names the bytes", "headers": _VALIDATORS}


def _asked(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


CONDITIONS: Json = {
    "parameters": [
        _asked("Range", "One span of bytes, as in `bytes=0-499`; several get the whole"),
        _asked("If-Range", "The strong `ETag` of what is held already; else the whole comes"),
        _asked("If-None-Match", "`ETag`s of what is held already: 304"),
        _asked("If-Match", "`ETag`s of which one is wanted: else 412"),
    ]
}

WAIT_PARAMETERS = [
    parameter(
        "wait",
        "Seconds to wait for the job to end or to stand otherwise; more than MAMBASCOPE_MAX_WAIT, "
        "60 unless it is set, count as that",
        {"type": "number", "minimum": 0, "default": 0},
    ),
    parameter("If-None-Match", "The `ETag` you have", {"type": "string"}, where="header"),
]
LAST_EVENT_PARAMETER = parameter(
    "Last-Event-ID",
    "The `id` of the last event you have; 0 for all that are kept",
    {"type": "string", "pattern": "^([0-9]{1,19}(-[0-9]{1,19})?)?$"},
    where="header",
)
EVENTS: Json = {
    "description": "Events named `status` and `progress`, each with an `id` and a `JobEvent` as "
    "`data`; comments in between keep the connection open",
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "required": ["event", "id", "data"],
                "properties": {
                    "event": {"type": "string", "enum": list(Happening)},
                    "id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": _REFERENCE.format(model="JobEvent")},
                    },
                },
            },
            "example": "retry: 2000\n\nevent: progress\nid: 1767225601000-0\ndata: "
            + JobEvent(
                at=datetime(2026, 1, 1, second=1, tzinfo=UTC),
                status=Status.RUNNING,
                attempts=1,
                progress=Progress(fraction=0.4),
            ).model_dump_json()
            + "\n\n",
        }
    },
}

_DETAILS = {
    ProblemType.INVALID_REQUEST: "`pocket/recall-mamba` has no layer 9: "
    "it has 2 layers, name one of 0 to 1.",
    ProblemType.MALFORMED_JSON: "The body cannot be read as JSON: it is empty.",
    ProblemType.REQUEST_TIMEOUT: "The body was not complete after 30 seconds. "
    "Send all of it at once.",
    ProblemType.BODY_TOO_LARGE: "A body may have at most 4194304 bytes. "
    "Send fewer or shorter texts a job.",
    ProblemType.UNSUPPORTED_MEDIA_TYPE: "The body came as `text/plain`. "
    "Send JSON with the header `Content-Type: application/json`.",
    ProblemType.UNAUTHENTICATED: "This service asks for a key. Send it in the header "
    "`Authorization: Bearer msk_...`; `mambascope keys create` makes one.",
    ProblemType.NOT_FOUND: "There is no job `01KA`. Is the id complete?",
    ProblemType.GONE: f"Job `{_JOB_ID}` is there no more: it was deleted. Send its request again.",
    ProblemType.ALREADY_ENDED: "The job has succeeded.",
    ProblemType.KEY_REUSED: "This `Idempotency-Key` came with another body in the last 24 hours. "
    "Use a new one for each request, and the same only to send the same request again.",
    ProblemType.RATE_LIMIT: "This key may make 60 requests in a minute. Ask again in 12 seconds.",
    ProblemType.QUEUE_LIMIT: "This key may have 10 jobs waiting, and has. "
    "Wait until some have started.",
    ProblemType.TOKEN_LIMIT: "The job has 900 tokens; of the 100000 that this key may spend in "
    "a day 250 are left until midnight UTC.",
    ProblemType.NOT_FINISHED: f"The job is running. Ask {_JOB_PATH} until it has ended.",
    ProblemType.JOB_FAILED: "The model's files are not usable: "
    "The config.json of `mine` is not usable: the file is missing.",
    ProblemType.MODEL_INVALID: "The config.json of `mine` is not usable: the file is missing.",
    ProblemType.PRECONDITION_FAILED: "The bytes here never change, and are not those that "
    "`If-Match` names. Send the request without it to get them.",
    ProblemType.RANGE_NOT_SATISFIABLE: "There are 48213 bytes here, and `Range` asks for others: "
    "ask for some below 48213.",
    ProblemType.UNAVAILABLE: "The job store does not answer. Ask again in 5 seconds.",
}


def _problem_example(kind: ProblemType) -> Problem:
    detail = _DETAILS[kind]
    is_request = kind is ProblemType.INVALID_REQUEST
    errors = [FieldError(pointer="/layers/0", detail=detail)] if is_request else []
    return Problem.of(kind, detail, errors)


def success(
    description: str, model: str, example: str | None = None, headers: Json | None = None
) -> Json:
    """A response that carries a model of the contract, and the name of its example."""
    content: Json = {"schema": {"$ref": _REFERENCE.format(model=model)}}
    if example is not None:
        content["examples"] = {example: _example_reference(example)}
    described: Json = {"description": description, "content": {"application/json": content}}
    return described | ({"headers": headers} if headers else {})


def _example_reference(name: str) -> Json:
    return {"$ref": f"#/components/examples/{name}"}


_BINARY: Json = {"schema": {"type": "string", "format": "binary"}}


def file_content() -> Json:
    """A response that carries the bytes of a file of any kind."""
    document = {"schema": {"$ref": _REFERENCE.format(model="ResultDocument")}}
    return {
        "image/png": _BINARY,
        "application/json": document,
        "application/octet-stream": _BINARY,
    }


def part_content() -> Json:
    """A response that carries some bytes of a file, which are no JSON where the file is."""
    return {"image/png": _BINARY, "application/json": {}, "application/octet-stream": _BINARY}


ARCHIVE: Json = {"application/zip": _BINARY}


def problems(*kinds: ProblemType) -> dict[int | str, Json]:
    """Responses for the problems a route is known to answer with, and for any other."""
    responses: dict[int | str, Json] = {}
    for kind in kinds:
        described = responses.setdefault(kind.status, _problem(kind.title))
        if kind.title not in described["description"]:
            described["description"] += f"; or: {kind.title}"
        content = described["content"]["application/problem+json"]
        content.setdefault("examples", {})[kind.slug] = _example_reference(kind.slug)
    responses["default"] = _problem("Any other problem")
    return responses


def _problem(description: str) -> Json:
    schema = {"$ref": _REFERENCE.format(model="Problem")}
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": schema}},
    }


def _components() -> Json:
    """Schemas and examples. Put in last, because FastAPI drops every null from what it is given.

    An answer holds every field, and a later version may add some, which a client must not refuse;
    a request may leave out what has a default, and is refused for a field that is not known.
    """
    _, answers = models_json_schema(
        [(model, "serialization") for model in _ANSWERS], ref_template=_REFERENCE
    )
    for schema in answers["$defs"].values():
        schema.pop("additionalProperties", None)
    _, request = models_json_schema([(JobRequest, "validation")], ref_template=_REFERENCE)
    schemas = answers["$defs"] | request["$defs"]
    examples = _EXAMPLES | {kind.slug: _problem_example(kind) for kind in _DETAILS}
    values = {name: {"value": shown.model_dump(mode="json")} for name, shown in examples.items()}
    return {"schemas": schemas, "examples": values}


def install_openapi(app: FastAPI) -> None:
    """Make the application's OpenAPI document complete: FastAPI knows only its own schemas."""

    def build() -> Json:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                license_info=app.license_info,
            )
            document["components"] = _components()
            document["webhooks"] = webhooks(_REFERENCE)
            describe_access(document, problems(ProblemType.UNAUTHENTICATED, ProblemType.RATE_LIMIT))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]
