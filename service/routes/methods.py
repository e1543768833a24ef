"""Which methods there are and what they compute."""

from fastapi import Response

from catalogue.methods import methods
from schemas.catalogue import MethodList
from schemas.names import API_VERSION
from service.openapi.answers import problems, success
from service.responses import json_response
from service.routes import new_router

router = new_router(prefix=f"/{API_VERSION}/methods", tags=["models"])

_LISTED = MethodList(methods=methods()).model_dump_json()
# They change with the version of the service only.
_AN_HOUR = {"Cache-Control": "private, max-age=3600"}


@router.get(
    "",
    responses={
        200: success("What `attention.methods` may name", "MethodList", "methods"),
        **problems(),
    },
)
async def list_methods() -> Response:
    """Every method: what it computes, its formula, whose it is and what it costs."""
    return json_response(_LISTED, _AN_HOUR)
