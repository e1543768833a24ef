"""The routes: one module per subject, each with a `router` whose routes `service.app` takes."""

from typing import Any

from fastapi import APIRouter, Response


def new_router(**options: Any) -> APIRouter:
    """A router whose operations are named after their functions and answer without a model."""
    return APIRouter(
        default_response_class=Response, generate_unique_id_function=_operation_id, **options
    )


def _operation_id(route: Any) -> str:
    return str(route.name)
