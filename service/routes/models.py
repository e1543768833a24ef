"""Which models there are and what they are."""

from typing import Annotated

from fastapi import Path, Request, Response

from catalogue.cached import description
from catalogue.locate import UnknownModel, installed, locate
from schemas.catalogue import ModelList, ModelSummary
from schemas.names import DEFAULT_MODEL, MODELS_PATH
from schemas.problem import ProblemError, ProblemType
from service.context import context_of
from service.openapi.answers import problems, success
from service.responses import json_response
from service.routes import new_router

router = new_router(prefix=MODELS_PATH, tags=["models"])

_FRESH = {"Cache-Control": "no-cache"}


@router.get(
    "",
    responses={
        200: success("What `models` of a request may name", "ModelList", "models"),
        **problems(ProblemType.UNAVAILABLE),
    },
)
def list_models(request: Request) -> Response:
    """The models on this service's disk, which workers hold them, and the ids that may be named."""
    context = context_of(request)
    settings, workers = context.settings, context.jobs.presence.alive()
    models = [
        ModelSummary(
            id=place.name,
            source=place.source,
            default=place.name == DEFAULT_MODEL,
            href=f"{MODELS_PATH}/{place.name}",
            resident_on=[w.worker for w in workers if place.name in w.models],
        )
        for place in installed(settings)
    ]
    listed = ModelList(models=models, allowed_hugging_face_ids=list(settings.hugging_face_ids))
    return json_response(listed, _FRESH)


@router.get(
    "/{model_id:path}",
    responses={
        200: success("The model", "ModelDescription", "model"),
        **problems(ProblemType.NOT_FOUND, ProblemType.MODEL_INVALID, ProblemType.UNAVAILABLE),
    },
)
def get_model(
    model_id: Annotated[str, Path(description="As a request names it", examples=[DEFAULT_MODEL])],
    request: Request,
) -> Response:
    """A model's layers, their mixers, the methods that apply, and which workers hold it."""
    context = context_of(request)
    try:
        place = locate(model_id, context.settings)
    except UnknownModel as error:
        raise ProblemError(ProblemType.NOT_FOUND, str(error)) from None
    if place.path is None:
        raise ProblemError(
            ProblemType.NOT_FOUND,
            f"`{model_id}` may be asked for, but its files are not on this service's disk, "
            "so it cannot be described yet. A job that names it fetches them.",
        )
    described = description(place, context.settings)
    holders = [w.worker for w in context.jobs.presence.alive() if model_id in w.models]
    return json_response(described.model_copy(update={"resident_on": holders}), _FRESH)
