"""The whole document: what FastAPI knows of the routes, and what it does not."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.catalogue import Health, MethodList, ModelDescription, ModelList, Readiness
from schemas.job import ArtifactList, Job, JobEvent, JobList
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest
from schemas.result import ResultDocument
from schemas.webhook import WebhookEvent
from service.openapi.access import describe_access
from service.openapi.answers import problems
from service.openapi.examples import examples
from service.openapi.parts import REFERENCE, Json
from service.openapi.webhooks import webhooks

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


def _components() -> Json:
    """Schemas and examples. Put in last, because FastAPI drops every null from what it is given.

    An answer holds every field, and a later version may add some, which a client must not refuse;
    a request may leave out what has a default, and is refused for a field that is not known.
    """
    _, answers = models_json_schema(
        [(model, "serialization") for model in _ANSWERS], ref_template=REFERENCE
    )
    for schema in answers["$defs"].values():
        schema.pop("additionalProperties", None)
    _, request = models_json_schema([(JobRequest, "validation")], ref_template=REFERENCE)
    schemas = answers["$defs"] | request["$defs"]
    values = {name: {"value": shown.model_dump(mode="json")} for name, shown in examples().items()}
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
            # Routes stand in the order in which they are tried.
            document["paths"] = dict(sorted(document["paths"].items()))
            document["components"] = _components()
            document["webhooks"] = webhooks()
            describe_access(document, problems(ProblemType.UNAUTHENTICATED, ProblemType.RATE_LIMIT))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]
