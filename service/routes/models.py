"""Which models there are and what they are."""

from fastapi import FastAPI, Response

from catalogue.cached import description
from catalogue.locate import UnknownModel, installed, locate
from schemas.catalogue import ModelPatterns, ModelSummary
from schemas.names import API_VERSION, DEFAULT_MODEL
from schemas.problem import ProblemError, ProblemType
from service.context import Context
from service.openapi import problems, success
from service.routes.jobs import JSON

MODELS = f"/{API_VERSION}/models"

_FRESH = {"Cache-Control": "no-cache"}


def add_routes(app: FastAPI, context: Context) -> None:
    """Add the routes of models to the application."""
    settings = context.settings

    @app.get(
        MODELS,
        response_class=Response,
        tags=["models"],
        responses={
            200: success("What `models` of a request may name", "ModelPatterns", "models"),
            **problems(),
        },
    )
    def list_models() -> Response:
        """The models on this service's disk, and the Hugging Face ids that may be asked for."""
        models = [
            ModelSummary(
                id=place.name,
                source=place.source,
                default=place.name == DEFAULT_MODEL,
                href=f"{MODELS}/{place.name}",
            )
            for place in installed(settings)
        ]
        patterns = ModelPatterns(
            models=models, allowed_hugging_face_ids=list(settings.hugging_face_ids)
        )
        return Response(patterns.model_dump_json(), 200, _FRESH, JSON)

    @app.get(
        MODELS + "/{model_id:path}",
        response_class=Response,
        tags=["models"],
        responses={
            200: success("The model", "ModelDescription", "model"),
            **problems(ProblemType.NOT_FOUND, ProblemType.MODEL_INVALID, ProblemType.UNAVAILABLE),
        },
    )
    def get_model(model_id: str) -> Response:
        """A model's layers, their mixers, the methods that apply, and which workers hold it."""
        try:
            place = locate(model_id, settings)
        except UnknownModel as error:
            raise ProblemError(ProblemType.NOT_FOUND, str(error)) from None
        if place.path is None:
            raise ProblemError(
                ProblemType.NOT_FOUND,
                f"`{model_id}` may be asked for, but its files are not on this service's disk, "
                "so it cannot be described yet. A job that names it fetches them.",
            )
        described = description(place, settings.max_tokens)
        holders = [w.worker for w in context.jobs.presence.alive() if model_id in w.models]
        resident = described.model_copy(update={"resident_on": holders})
        return Response(resident.model_dump_json(), 200, _FRESH, JSON)
